"""The tables of a page against a plain search: the law's function, the procedures' own graphs, nothing merged."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from pagewarden.check.page.actors import guest_procedures
from pagewarden.check.page.flow import TAKES, Flow, Leads, Node, flow
from pagewarden.check.page.moves import FRAME_OPS, LAW, NEEDS_HOLD
from pagewarden.check.page.strangers import STRANGERS, stranger_named
from pagewarden.check.page.system import PROPERTIES, Setting, build
from pagewarden.check.verdict import check
from pagewarden.designs import DESIGNS, PROCEDURES
from pagewarden.designs.steps import Lock
from pagewarden.law import Home, Op, Outcome, Owner, Page, Policy, Reach, Step, apply, policy_named, start
from pagewarden.law.properties import ALWAYS, PROGRESS, SOMETIMES

Seat = tuple[str, Node, bool] | None
"""The procedure, where it stands, whether the page has left the frame that it holds, or is not what was looked up."""
LOCKED = policy_named("guest-memfd-inplace").with_(
    "invalidate-lock", "mmu-lock", "sequence-compared", "gup-fast", "refusal-ends"
)


@dataclass(frozen=True)
class State:
    page: Page
    held: bool
    procedure: Seat
    vcpus: tuple[Seat, ...]


class Reference:
    def __init__(self, setting: Setting) -> None:
        self.setting, self.policy = setting, setting.policy
        known = guest_procedures(setting.design, setting.policy)
        self.looks, self.compares = (setting.policy.has(name) for name in ("mmu-lock", "sequence-compared"))
        self.guest = {name: flow(name, known[name](), looks=self.looks) for name in known if name != "pool-setup"}
        if not any(node.step.op is Op.UNSHARE_BEGIN for node in self.guest["write"].nodes()):
            del self.guest["unshare"]
        names = [name for each in setting.strangers for name in STRANGERS[each].procedures]
        self.procedure = {name: flow(name, PROCEDURES[name](setting.policy), looks=self.looks) for name in names}
        self.ops = dict.fromkeys(op for each in setting.strangers for op in STRANGERS[each].ops)
        self.depths = {State(start(setting.policy), False, None, (None,) * setting.vcpus): 0}
        self.marks: dict[str, int] = {}

    def search(self) -> None:
        queue = deque(self.depths)
        while queue:
            state = queue.popleft()
            if self.deadlocked(state):
                self.marks.setdefault("no-deadlock", self.depths[state])
            for after, shown in self.follow(state):
                for name in shown:
                    self.marks.setdefault(name, self.depths[state] + 1)
                if after not in self.depths:
                    self.depths[after] = self.depths[state] + 1
                    queue.append(after)

    def follow(self, state: State) -> Iterator[tuple[State, list[str]]]:
        dying = state.procedure is not None and state.procedure[0] == "teardown"
        for slot, seat in enumerate(state.vcpus if not dying else ()):
            if seat is not None:
                yield from self.advance(state, slot, seat)
                continue
            for op in (Op.GUEST_LOAD, Op.GUEST_STORE):
                step = apply(self.policy, state.page, op)
                if step.outcome is Outcome.DONE:
                    yield self.moved(state, step, op), self.shown(state.page, op, step)
            for name in self.startable(state.page):
                yield from self.begin(state, slot, self.guest[name])
        if state.procedure is not None:
            yield from self.advance(state, len(state.vcpus), state.procedure)
        for name, procedure in self.procedure.items():
            if state.procedure is None and (name != "teardown" or not any(state.vcpus)):
                yield from self.begin(state, -1, procedure)
        yield from self.single(state)

    def deadlocked(self, state: State) -> bool:
        """Everybody who is at work is about to take a lock that somebody at work, perhaps he himself, holds."""
        seats = [*state.vcpus, state.procedure]
        busy = [number for number, seat in enumerate(seats) if seat is not None]
        return bool(busy) and all(
            isinstance(node.step, Lock) and not any(self.free(state, number, exit.node) for exit in node.done)
            for number in busy
            for node in [seats[number][1]]  # type: ignore[index]
        )

    def free(self, state: State, slot: int, node: Node | None) -> bool:
        """Whether nobody else has a lock that an actor has there; nobody takes one twice."""
        mine = [name for name, _ in node.stands.locks] if node else []
        others = [seat[1] for number, seat in enumerate([*state.vcpus, state.procedure]) if seat and number != slot]
        theirs = {name for other in others for name, _ in other.stands.locks}
        return len(set(mine)) == len(mine) and theirs.isdisjoint(mine)

    def startable(self, page: Page) -> Iterator[str]:
        yield from (name for name in ("write", "read", "unshare") if name in self.guest)
        if apply(self.policy, page, Op.GUEST_LOAD).outcome is Outcome.GUEST_FAULT:
            if page.home is Home.SWAPPED:
                yield "swap-in"
            elif page.owner is Owner.HOST:
                yield "setup"
            elif page.owner in (Owner.GUEST, Owner.OFFERED, Owner.SHARED, Owner.LEAVING):
                yield "refault"

    def begin(self, state: State, slot: int, procedure: Flow) -> Iterator[tuple[State, list[str]]]:
        for exit in procedure.entries:
            if exit.node is not None:
                place = slot % (len(state.vcpus) + 1)
                yield from self.advance(state, place, (procedure.name, exit.node, False))

    def advance(self, state: State, slot: int, seat: tuple[str, Node, bool]) -> Iterator[tuple[State, list[str]]]:
        name, node, adrift = seat
        op, late = node.step.op, adrift and node.step.op is Op.GUEST_MAP
        if late or op is None or (adrift and op in FRAME_OPS):
            step, shown = Step(state.page, Outcome.DONE), []
        else:
            step = apply(self.policy, state.page, Op.UNPIN_OLD if adrift and op is Op.UNPIN else op)
            shown = self.shown(state.page, op, step)
        if name == "setup":
            shown = [each for each in shown if each != "unshare-succeeds"]
        if step.outcome is Outcome.PANIC or (step.outcome is Outcome.HOST_RETRY and node.retries):
            yield state, shown
            return
        fine = step.outcome is Outcome.DONE or (adrift and op is Op.UNPIN)
        op = None if late else op
        missed = op in TAKES and step.outcome is Outcome.DONE and step.page.pins <= state.page.pins
        if late:
            fine = not self.compares and not state.page.notify
            shown = ["no-stale-translation"] if fine else []
        for exit in node.done if fine else node.refused:
            if not self.free(state, slot, exit.node):
                continue
            ended = ["io-completes"] if exit.node is None and exit.ok and name in ("write", "read") else []
            yield self.moved(state, step, op, slot, self.seat(name, exit, adrift or missed)), shown + ended

    def seat(self, name: str, exit: Leads, adrift: bool) -> Seat:
        return (
            None
            if exit.node is None
            else (name, exit.node, adrift and (exit.node.stands.holds or exit.node.stands.looked))
        )

    def moved(self, state: State, step: Step, op: Op | None, slot: int | None = None, seat: Seat = None) -> State:
        """The state after a step, with the seat of whoever took it. Fewer pins though nobody let go: another frame."""
        seats = [*state.vcpus, state.procedure]
        if slot is not None:
            seats[slot] = seat
        left = step.page.pins < state.page.pins and op is not Op.UNPIN
        seats = [self.lost(each) if left else each for each in seats]
        if self.late(state.page, step.page, op):
            seats = [seat if number == slot else self.outdated(seat) for number, seat in enumerate(seats)]
        return State(step.page, state.held and not left, seats[-1], tuple(seats[:-1]))

    def late(self, before: Page, after: Page, op: Op | None) -> bool:
        """Whether KVM's look-up of before is seen to be late, or (where nobody compares) would find something else."""
        if self.compares:
            return op is Op.NOTIFY_END and before.notify > 0
        kinds = [
            (page.owner in (Owner.GUEST, Owner.OFFERED), page.owner is Owner.SHARED, page.home is Home.RESIDENT)
            for page in (before, after)
        ]
        return kinds[0] != kinds[1]

    def outdated(self, seat: Seat) -> Seat:
        return (seat[0], seat[1], True) if seat is not None and seat[1].stands.looked else seat

    def lost(self, seat: Seat) -> Seat:
        return seat if seat is None or not seat[1].stands.holds else (seat[0], seat[1], True)

    def single(self, state: State) -> Iterator[tuple[State, list[str]]]:
        for op in self.ops:
            held = True if op in NEEDS_HOLD or op is Op.UNPIN else False if op in TAKES else state.held
            if held != state.held or (op is Op.UNPIN and state.page.dma is Reach.LIVE):
                continue
            step = apply(self.policy, state.page, op)
            after = self.moved(state, step, op)
            if step.outcome is Outcome.DONE and op in TAKES:
                after = replace(after, held=step.page.pins > state.page.pins)
            elif step.outcome is Outcome.DONE and op is Op.UNPIN:
                after = replace(after, held=False)
            yield after, self.shown(state.page, op, step)

    def shown(self, page: Page, op: Op, step: Step) -> list[str]:
        return [name for name, holds in (ALWAYS | SOMETIMES).items() if holds(self.policy, page, op, step)]


@pytest.mark.parametrize(
    ("policy", "design", "vcpus", "strangers"),
    [
        ("pkvm-2022", "window", 1, "strace,dma,teardown"),
        ("hybrid", "pread", 1, "file-io,punch,swap,swap-stale"),
        ("hybrid", "iommu", 2, "none"),
        ("uffd-window", "splice", 1, "o-direct,migrate"),
        ("uffd-window+isolated", "window", 1, "io-uring,discard"),
        ("guest-memfd-inplace", "window", 1, "strace,o-direct"),
        ("memfd-secret+mprotect", "remap", 2, "touch,mremap"),
        (LOCKED, "window", 2, "o-direct"),
        (LOCKED.without("unmaps-first", "sequence-compared"), "pread", 2, "punch"),
        (LOCKED.with_("notifier-locks"), "window", 2, "punch"),
        (policy_named("pkvm").with_("component-locks"), "window", 2, "o-direct"),
    ],
)
def test_same_pages_and_same_shortest_ways(policy: str | Policy, design: str, vcpus: int, strangers: str) -> None:
    known = policy_named(policy) if isinstance(policy, str) else policy
    setting = Setting(known, DESIGNS[design], 1, vcpus, stranger_named(strangers))
    reference = Reference(setting)
    reference.search()
    checked = build(setting)
    pages = {checked.table.pages[law] for law in checked.locals[0].rows()[:, LAW]}
    assert pages == {state.page for state in reference.depths}
    report = check(setting, tuple(name for name in PROPERTIES if name != PROGRESS))
    lengths = {verdict.name: len(verdict.path) for verdict in report.verdicts if verdict.path}
    assert lengths == reference.marks
