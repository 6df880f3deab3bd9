"""Who acts on a page: the guest's vCPUs with the design's procedures, and the stranger with what the host may try."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.page.flow import Flow, flow
from pagewarden.check.page.places import Onward, Place, behaviour, places_of
from pagewarden.check.page.strangers import STRANGERS
from pagewarden.designs import PROCEDURES, Design, Options, Procedure
from pagewarden.designs.convert import refault, unshare
from pagewarden.law import Home, Op, Outcome, Owner, Page, Policy, Table

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Start:
    """Procedures of which an idle actor may choose one, in the law's states where when is true."""

    role: str
    flows: tuple[Flow, ...]
    first: Onward
    when: Mask
    alone: bool = False  # only while no vCPU is at work on the page, and none is until it has ended


@dataclass(frozen=True)
class Cast:
    """Everybody who acts on a page. ops: what the stranger does at any time, with the ability that allows it."""

    vcpu: tuple[Start, ...]
    procedure: tuple[Start, ...]
    ops: dict[Op, str]

    @property
    def all_ops(self) -> set[Op]:
        """Every operation that anybody may do."""
        places = [*self.places(self.vcpu), *self.places(self.procedure)]
        return {Op.GUEST_LOAD, Op.GUEST_STORE, *self.ops, *(place.op for place in places if place.op is not None)}

    def places(self, starts: Iterable[Start]) -> list[Place]:
        return places_of(start.first for start in starts)


def _start(role: str, flows: Iterable[Flow], when: Mask, alone: bool = False) -> Start:
    flows = tuple(flows)
    return Start(role, flows, behaviour(role, flows), when, alone)


def guest_procedures(design: Design, policy: Policy) -> dict[str, Callable[[], Procedure]]:
    """What a vCPU may run on one of the design's pages, by name."""
    read, write = (partial(design, Options(), policy, way) for way in (False, True))
    return {
        "write": write,
        "read": read,
        "unshare": lambda: Procedure("unshare", unshare(Options(), policy)),
        "setup": lambda: Procedure("setup", write().setup),
        "pool-setup": lambda: Procedure("pool-setup", write().pool_setup),
        "refault": lambda: Procedure("refault", refault(policy)),
        "swap-in": lambda: PROCEDURES["swap-in"](policy),
    }


def cast(design: Design, table: Table, strangers: tuple[str, ...], pool: bool = False) -> Cast:
    """The actors for a page of a design's requests, or (pool) for a page of the pool that its requests go through."""
    return Cast(_guest(design, table, pool), _procedures(table, strangers), _abilities(strangers))


def _guest(design: Design, table: Table, pool: bool) -> tuple[Start, ...]:
    known, looks = guest_procedures(design, table.policy), table.policy.has("mmu-lock")
    faults = table.outcome[:, Op.GUEST_LOAD] == Outcome.GUEST_FAULT
    swapped = np.array([page.home is Home.SWAPPED for page in table.pages])
    new = np.array([_untouched(table.policy, page) for page in table.pages])
    always = np.ones(len(table.pages), bool)
    chosen: list[tuple[str, tuple[str, ...], Mask]] = [
        ("request", ("write", "read"), always),
        ("guest", ("unshare",) if design.converts(table.policy) else (), always),
        ("setup", ("pool-setup" if pool else "setup",), faults & new & ~swapped),
        ("guest", ("refault",), faults & ~swapped & _mappable(table)),
        ("guest", ("swap-in",), faults & swapped),
    ]
    starts = (_start(role, [flow(name, known[name](), pool and role == "request", looks) for name in names], when)
              for role, names, when in chosen)  # fmt: skip
    return tuple(start for start in starts if start.first.places)


def _untouched(policy: Policy, page: Page) -> bool:
    """Nobody has given it to the guest yet, or it is as if nobody had."""
    return page.owner is policy.starts and (page.owner is Owner.HOST or page.home is Home.HOLE)


def _mappable(table: Table) -> Mask:
    """Pages that KVM looks up for the guest: not those that the host has given to others than the guest."""
    guests = (Owner.GUEST, Owner.OFFERED, Owner.SHARED, Owner.LEAVING)
    return np.array([page.owner in guests for page in table.pages])


def _procedures(table: Table, strangers: tuple[str, ...]) -> tuple[Start, ...]:
    abilities = [it for it in map(STRANGERS.__getitem__, strangers) if not it.needs or table.policy.has(it.needs)]
    names = [name for ability in abilities for name in ability.procedures]
    flows = {name: flow(name, PROCEDURES[name](table.policy), looks=table.policy.has("mmu-lock")) for name in names}
    always = np.ones(len(table.pages), bool)
    together = [_start("procedure", [it for name, it in flows.items() if name != "teardown"], always)]
    alone = [_start("teardown", [it for name, it in flows.items() if name == "teardown"], always, alone=True)]
    return tuple(start for start in together + alone if start.first.places)


def _abilities(strangers: tuple[str, ...]) -> dict[Op, str]:
    ops: dict[Op, str] = {}
    for name in strangers:
        for op in STRANGERS[name].ops:
            ops.setdefault(op, name)
    return ops
