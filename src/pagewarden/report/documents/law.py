"""`pagewarden law --json`."""

from typing import Literal

from msgspec import Struct

from pagewarden.report.documents.base import Document


class LawCase(Struct, kw_only=True, frozen=True):
    """What happens to the pages whose fields have those values; fields that do not matter are left out.

    `errno` is null where the operation is done or ends in a trap; `reached`: the bytes of the page are touched;
    `states`: how many pages fall into the case.
    """

    when: dict[str, list[str]]
    outcome: str
    errno: int | None
    changes: dict[str, str]
    events: list[str]
    reached: bool
    states: int


class LawSource(Struct, frozen=True):
    """What a rule rests on, and a page that has it (null for what is our own)."""

    name: str
    says: str
    link: str | None


class LawOp(Struct, frozen=True):
    """An operation; its cases are disjoint and cover every state that a page of the policy can reach. `source` has the
    names of `sources` in a line; `asked` are the rows of `pagewarden probe` that tried it, empty where it is argued."""

    name: str
    rule: str
    source: str
    cases: list[LawCase]
    sources: list[LawSource]
    asked: list[str]


class PolicyLaw(Document, kw_only=True, frozen=True):
    """`pagewarden law`: what each operation does to a page of a policy, and where that is known from. `asked` are the
    kernels that were asked, empty where the policy is argued from its sources."""

    verb: Literal["law"] = "law"
    policy: str
    guard: str
    fault: str
    stands_for: str
    mechanisms: list[str]
    states: int
    asked: list[str]
    ops: list[LawOp]
