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
from pagewarden.law import Home, Op, Outcome, Owner, Page, Reach, Step, apply, policy_named, start
from pagewarden.law.properties import ALWAYS, SOMETIMES

Seat = tuple[str, Node, bool] | None
"""The procedure, where it stands, whether the page has left the frame that it holds."""


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
        self.guest = {name: flow(name, known[name]()) for name in known if name != "pool-setup"}
        if not any(node.step.op is Op.UNSHARE_BEGIN for node in self.guest["write"].nodes()):
            del self.guest["unshare"]
        names = [name for each in setting.strangers for name in STRANGERS[each].procedures]
        self.procedure = {name: flow(name, PROCEDURES[name](setting.policy)) for name in names}
        self.ops = dict.fromkeys(op for each in setting.strangers for op in STRANGERS[each].ops)
        self.depths = {State(start(setting.policy), False, None, (None,) * setting.vcpus): 0}
        self.marks: dict[str, int] = {}

    def search(self) -> None:
        queue = deque(self.depths)
        while queue:
            state = queue.popleft()
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
            yield from self.advance(state, -1, state.procedure)
        for name, procedure in self.procedure.items():
            if state.procedure is None and (name != "teardown" or not any(state.vcpus)):
                yield from self.begin(state, -1, procedure)
        yield from self.single(state)

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
                yield from self.advance(state, slot, (procedure.name, exit.node, False))

    def advance(self, state: State, slot: int, seat: tuple[str, Node, bool]) -> Iterator[tuple[State, list[str]]]:
        name, node, adrift = seat
        op = node.step.op
        if adrift and op in FRAME_OPS:
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
        missed = op in TAKES and step.outcome is Outcome.DONE and step.page.pins <= state.page.pins
        for exit in node.done if fine else node.refused:
            ended = ["io-completes"] if exit.node is None and exit.ok and name in ("write", "read") else []
            yield self.moved(state, step, op, slot, self.seat(name, exit, adrift or missed)), shown + ended

    def seat(self, name: str, exit: Leads, adrift: bool) -> Seat:
        return None if exit.node is None else (name, exit.node, adrift and exit.node.holds)

    def moved(self, state: State, step: Step, op: Op, slot: int | None = None, seat: Seat = None) -> State:
        """The state after a step, with the seat of whoever took it. Fewer pins though nobody let go: another frame."""
        seats = [*state.vcpus, state.procedure]
        if slot is not None:
            seats[slot] = seat
        left = step.page.pins < state.page.pins and op is not Op.UNPIN
        seats = [self.lost(each) if left else each for each in seats]
        return State(step.page, state.held and not left, seats[-1], tuple(seats[:-1]))

    def lost(self, seat: Seat) -> Seat:
        return seat if seat is None or not seat[1].holds else (seat[0], seat[1], True)

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
    ],
)
def test_same_pages_and_same_shortest_ways(policy: str, design: str, vcpus: int, strangers: str) -> None:
    setting = Setting(policy_named(policy), DESIGNS[design], 1, vcpus, stranger_named(strangers))
    reference = Reference(setting)
    reference.search()
    checked = build(setting)
    pages = {checked.table.pages[law] for law in checked.locals[0].rows()[:, LAW]}
    assert pages == {state.page for state in reference.depths}
    report = check(setting, PROPERTIES)
    lengths = {verdict.name: len(verdict.path) for verdict in report.verdicts if verdict.path}
    assert lengths == reference.marks
