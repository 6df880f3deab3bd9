"""`pagewarden check --json`, of one setting, of all policies, of sets of mechanisms."""

from typing import Literal

from msgspec import Struct

from pagewarden.check.verdict import Kind, Said
from pagewarden.report.documents.base import Document


class TraceStep(Struct, frozen=True):
    """Who does what, what comes of it, and the rule that says so."""

    actor: str
    action: str
    effect: str
    rule: str


class WayToFail(Struct, frozen=True):
    """An independent way to break a property, which no part of its `actors` is enough for: those beside a vCPU of the
    guest. `wrong` says what its last step does, of a deadlock also who waits for whose lock, `missing` which
    mechanisms would have ended it at which step."""

    actors: list[str]
    steps: int
    wrong: str
    missing: list[str]
    trace: list[TraceStep]


class Property(Struct, frozen=True):
    """`promise` is what it is about, or null where it is one that must be possible. `trace` is the first of the `ways`
    to a failure, those with the fewest actors first, then the shortest; a `sometimes` that fails has none. `open`: not
    every state was seen."""

    name: str
    kind: Kind
    promise: str | None
    verdict: Said
    trace: list[TraceStep]
    ways: list[WayToFail]


class Checked(Document, kw_only=True, frozen=True):
    """`pagewarden check`: what holds in every interleaving.

    `pages` are those explored together: 1 where one page decided for all (`--search apart`). `states_by_depth`: of all
    `states`, how many were first seen after so many steps. `stopped` says why a search
    ended before it was exhausted, or is null. `absent` are properties that were not asked, with the reason;
    `notes` what the machine, or a stranger that helps, changes in the meaning of a verdict.
    """

    verb: Literal["check"] = "check"
    policy: str
    design: str
    pages: int
    vcpus: int
    symmetry: bool
    states: int
    transitions: int
    depth: int
    states_by_depth: list[int]
    seconds: float
    exhausted: bool
    stopped: str | None
    properties: list[Property]
    absent: dict[str, str]
    notes: list[str]


class Cell(Struct, frozen=True):
    """`steps` of the first way to a failure; 0 without one; `trace` has them. `at_stake`: a variant of the
    policy, with one mechanism left out, could break it; where none could, that it holds is no merit of the policy's."""

    name: str
    verdict: Said
    steps: int
    at_stake: bool
    trace: list[TraceStep]


class Column(Struct, frozen=True):
    """A policy, one page with all who act on it. `exhausted`: each property is decided. `asked`: the kernels that were
    asked whether they do as the policy says; none: it is argued. `trusted`: who must be for its promises to hold.
    `helped`: what holds only with the stranger's help."""

    policy: str
    asked: list[str]
    trusted: str
    states: int
    seconds: float
    exhausted: bool
    helped: list[str]
    properties: list[Cell]


class Matrix(Document, kw_only=True, frozen=True):
    """`pagewarden check --matrix`: every policy and every property that it offers; `unknown` are policies of which
    nothing is known, as it was interrupted."""

    verb: Literal["check-matrix"] = "check-matrix"
    policies: list[Column]
    unknown: list[str]


class MinimalSets(Document, kw_only=True, frozen=True):
    """`pagewarden check --minimal`: the smallest sets of mechanisms with which all the properties hold.

    `left` are sets of which nothing is known, as a limit was reached: a smaller one may be among them.
    """

    verb: Literal["check-minimal"] = "check-minimal"
    policy: str
    design: str
    properties: list[str]
    sets: list[list[str]]
    left: int


class ProtocolProperty(Struct, frozen=True):
    """What is promised, and the shortest way to where it is broken, a step each; empty where it holds."""

    name: str
    promise: str
    verdict: Said
    way: list[str]


class CheckedProtocol(Document, kw_only=True, frozen=True):
    """`pagewarden check --protocol`: a page keeper's, or a live migration's, with all who act there, in every order."""

    verb: Literal["check"] = "check"
    mode: Literal["protocol"] = "protocol"
    protocol: Literal["keeper", "migration"]
    guards: list[str]
    without: list[str]
    states: int
    good: bool
    properties: list[ProtocolProperty]


class PublicBug(Struct, frozen=True):
    """A bug that was reported in public: `source` is the address. `change` takes mechanisms away from `policy`, which
    has the fix, or adds some; `command` tells the way there, of so many `steps`; `fixed` is the verdict without it."""

    name: str
    source: str
    policy: str
    change: str
    command: str
    property: str
    verdict: Said
    steps: int
    fixed: Said


class PublicBugs(Document, kw_only=True, frozen=True):
    """`pagewarden check --bugs`: whether each bug of the corpus is found, and its fix holds."""

    verb: Literal["check"] = "check"
    bugs: list[PublicBug]
