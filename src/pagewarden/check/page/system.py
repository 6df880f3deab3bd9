"""The system that is checked: pages of one policy, a guest with one I/O design, and a stranger on the host."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from pagewarden.check.page.actors import Cast, cast, guest_procedures
from pagewarden.check.page.arrays import Properties
from pagewarden.check.page.flow import flow
from pagewarden.check.page.local import EVERY, Local, PageSearch
from pagewarden.check.page.moves import ALL, moves
from pagewarden.check.page.strangers import STRANGERS
from pagewarden.check.search.automaton import MOST, System
from pagewarden.check.search.explorer import Limits
from pagewarden.designs import DESIGNS, Design, Options
from pagewarden.law import LOCKING, Data, Op, Page, Policy, Table, enumerated
from pagewarden.law.page import PRIVATE
from pagewarden.law.properties import ALWAYS, DEADLOCK, OF_THE_WHOLE, PROGRESS, SOMETIMES
from pagewarden.vocab import UserMistake, one_of

COMPLETES = "io-completes"
STALE = "no-stale-translation"
PROPERTIES = (*ALWAYS, *SOMETIMES, COMPLETES, *OF_THE_WHOLE)
"""In the order of their marks' bits."""


def asked(names: tuple[str, ...]) -> tuple[str, ...]:
    """The properties of these names; UserMistake lists them all."""
    return tuple(one_of("property", name, PROPERTIES) for name in names)


def bits(names: Iterable[str]) -> int:
    """The marks of these properties."""
    return sum(1 << PROPERTIES.index(name) for name in names)


@dataclass(frozen=True)
class Setting:
    """What is checked. strangers: names of `STRANGERS`, in their order. symmetric: pages of a kind, and vCPUs, are
    interchangeable."""

    policy: Policy
    design: Design = DESIGNS["window"]
    pages: int = 2
    vcpus: int = 2
    strangers: tuple[str, ...] = tuple(STRANGERS)
    symmetric: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.pages <= 8:
            raise UserMistake(f"--pages {self.pages}: expected 1 to 8")
        if not 1 <= self.vcpus < MOST:
            raise UserMistake(f"--vcpus {self.vcpus}: expected 1 to {MOST - 1}")


@dataclass(frozen=True)
class CheckedSystem:
    """A setting with what was found of one page. casts, locals: by kind of page, the guest's own, then the pool's."""

    setting: Setting
    table: Table
    casts: list[Cast]
    locals: list[Local]

    @property
    def counts(self) -> list[int]:
        """How many pages there are of each kind."""
        return [self.setting.pages, 1][: len(self.locals)]

    @cached_property
    def system(self) -> System:
        """All pages together, for the explorer."""
        setting = self.setting
        locks = (ALL,) * max(len(local.moves.locks) for local in self.locals)
        capacity = (setting.vcpus, 1, *locks) if setting.symmetric else (*(1,) * setting.vcpus, 1, *locks)
        kinds = [(local.automaton, count) for local, count in zip(self.locals, self.counts, strict=True)]
        return System(kinds, capacity, setting.symmetric)


def offered(setting: Setting) -> dict[str, str]:
    """The properties that cannot be asked of a setting, and why: it has no such mechanism."""
    without = {}
    needs = {"swap-round-trips": "swaps", "migration-completes": "migrates"}
    for name, mechanism in {**needs, "unshare-refused-while-pinned": "refs-checked"}.items():
        if not setting.policy.has(mechanism):
            without[name] = f"{setting.policy.name} has no mechanism `{mechanism}`"
    if not setting.policy.mechanisms & LOCKING.keys():
        without.update(dict.fromkeys(OF_THE_WHOLE, f"{setting.policy.name} says nothing of locks"))
    if not _holders(setting):
        without.setdefault("unshare-refused-while-pinned", "nobody there takes a reference")
    abilities = {"swap-round-trips": "swap", "migration-completes": "migrate"}
    for name, ability in abilities.items():
        if ability not in setting.strangers:
            without.setdefault(name, f"no stranger that can `{ability}`")
    if setting.policy.has("fixed"):
        for name in ("share-succeeds", "unshare-succeeds", "unshare-refused-while-pinned"):
            without[name] = f"{setting.policy.name} converts no page"
    elif not setting.design.converts(setting.policy):
        for name in ("unshare-succeeds", "unshare-refused-while-pinned"):
            without[name] = f"{setting.design} never takes a page back"
    return without


def _holders(setting: Setting) -> bool:
    """Whether somebody but the vCPU that unshares may hold a page."""
    ops = {op for name in setting.strangers for op in STRANGERS[name].ops}
    if "strace" in setting.strangers:
        ops.add(Op.GUP_PIN)
    if setting.vcpus > 1:
        request = guest_procedures(setting.design, setting.policy)["write"]()
        ops |= {node.step.op for node in flow("write", request).nodes() if node.step.op is not None}
    by_fd = Op.FD_GET in ops and setting.policy.has("file-io")
    return by_fd or (Op.GUP_PIN in ops and not setting.policy.has("gup-blocked"))


def page_searches(
    setting: Setting, limits: Limits, keep: int, began: float | None = None, own: bool = False
) -> tuple[list[Cast], list[PageSearch]]:
    """The actors on each kind of page, and the search of its states. keep, began: as PageSearch has them;
    own: as `verdict.check` has it."""
    table, marks = enumerated(setting.policy), properties(setting.policy, own)
    casts = [cast(setting.design, table, setting.strangers, pool) for pool in (False, True)[: 1 + _has_pool(setting)]]
    vcpus, symmetric = setting.vcpus, setting.symmetric
    listed = [moves(everybody, table, vcpus) for everybody in casts]
    return casts, [PageSearch(table, each, marks, vcpus, symmetric, limits, keep, began) for each in listed]


def build(setting: Setting) -> CheckedSystem:
    """The system of a setting, every page's states and actions; nothing of several pages is explored yet."""
    casts, searches = page_searches(setting, Limits(), EVERY)
    for search in searches:
        while search.more():
            search.run()
    return CheckedSystem(setting, enumerated(setting.policy), casts, [search.local() for search in searches])


def _has_pool(setting: Setting) -> bool:
    return bool(setting.design(Options(), setting.policy, True).pool_setup)


@cache
def properties(policy: Policy, own: bool = False) -> Properties:
    """The marks of every step of the law. A page that is given to the guest ends with the step of an unshare, which
    shows nothing of conversion. own: what must always hold is marked on pages with bytes of the guest's only."""
    if own:
        known = properties(policy)
        others = [not _own(page) for page in enumerated(policy).pages]
        marks = known.marks.copy()
        marks[others] &= np.uint32(~bits(ALWAYS) & 0xFFFF_FFFF)
        return replace(known, marks=marks)
    where = enumerated(policy).where({**ALWAYS, **SOMETIMES})
    marks = np.zeros((len(enumerated(policy).pages), len(Op)), np.uint32)
    for bit, name in enumerate(where):
        marks |= where[name].astype(np.uint32) << np.uint32(bit)
    hidden = 1 << PROPERTIES.index("unshare-succeeds")
    completes, stale, deadlock, stuck = (bits([name]) for name in (COMPLETES, STALE, DEADLOCK, PROGRESS))
    return Properties(PROPERTIES, marks, completes, stale, deadlock, stuck, hidden)


def _own(page: Page) -> bool:
    """The guest has written to it: what is the host's business where it is shared, else its own."""
    return page.data is Data.SECRET or (page.data is Data.PUBLIC and page.owner not in PRIVATE)
