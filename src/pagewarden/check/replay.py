"""A path of the explorer told again: each step by the law's own function, each actor at its place in its procedure."""

from dataclasses import dataclass, field

from pagewarden.check.page.arrays import changes_look_up
from pagewarden.check.page.flow import Flow, Leads, Node
from pagewarden.check.page.local import Local
from pagewarden.check.page.moves import PROCEDURE, VCPU, Move
from pagewarden.check.page.places import Place
from pagewarden.check.page.system import CheckedSystem
from pagewarden.check.search.explorer import Taken
from pagewarden.designs.steps import Line, Lock, said
from pagewarden.law import Op, Outcome, Page, Step, apply
from pagewarden.vocab import InternalError


@dataclass
class Told:
    """One step. who: which vCPU, or None for the stranger; op None: on a frame that the page has left. lead: what the
    procedure says and crosses before it; text: what it says of the step; lock: that it takes; world: who runs it."""

    page: int
    move: Move
    who: int | None
    before: Page
    step: Step
    world: str = "host"
    text: str = ""
    procedure: str = ""
    lock: str = ""
    lead: tuple[Line, ...] = ()
    after: tuple[Line, ...] = ()


@dataclass
class _Run:
    """An actor's procedure so far: the steps of the path that belong to it; at: where it stands, None: it has ended."""

    flows: tuple[Flow, ...]
    steps: list[Told] = field(default_factory=list)
    at: Place | None = None


@dataclass(frozen=True)
class AtWork:
    """An actor at work at the end of a path. who: as a step has it; node: what it is about to do, and holds."""

    who: int | None
    node: Node


def replay(checked: CheckedSystem, path: list[Taken], kind: int | None = None) -> list[Told]:
    """The steps of a path, by the law's function. kind: of the page that was explored alone; None: all together.

    InternalError: the function does not do what the tables say.
    """
    return _Replay(checked, kind).tell(path)


def standing(checked: CheckedSystem, path: list[Taken], kind: int | None = None) -> list[AtWork]:
    """Who is at work at the end of a path, and where: vCPUs, then the stranger's procedure."""
    replayed = _Replay(checked, kind)
    replayed.tell(path)
    found = []
    for actor, run in sorted(replayed.runs.items(), key=lambda item: (item[0] < 0, item[0])):
        node = _label(run).node
        assert node is not None
        found.append(AtWork(None if actor < 0 else actor, node))
    return found


class _Replay:
    def __init__(self, checked: CheckedSystem, kind: int | None) -> None:
        self.checked = checked
        self.kinds = (
            [number for number, count in enumerate(checked.counts) for _ in range(count)] if kind is None else [kind]
        )
        self.pages = [checked.table.pages[0]] * len(self.kinds)
        self.vcpus: list[tuple[int, int]] = [(0, 0)] * checked.setting.vcpus  # the page and the seat of each
        self.runs: dict[int, _Run] = {}
        self.finished: list[_Run] = []

    def tell(self, path: list[Taken]) -> list[Told]:
        told = [self.step(taken) for taken in path]
        for run in [*self.finished, *self.runs.values()]:
            _label(run)
        return told

    def step(self, taken: Taken) -> Told:
        local = self.checked.locals[self.kinds[taken.component]]
        move = local.moves.list[taken.action]
        before = self.pages[taken.component]
        done = Step(before, Outcome.DONE)
        step = done if move.op is None else apply(self.checked.setting.policy, before, move.op)
        table = self.checked.table
        if move.op is not None and table.pages[table.next[table.index[before], move.op]] != step.page:
            raise InternalError(f"the law's function and its table differ in {move.op!r} on {before}")
        rows = local.rows_of([taken.before, taken.after])
        who = self.slot(taken, move) if move.actor == "vcpu" else None
        told = Told(taken.component, move, who, before, step)
        self.drift(told, rows[1][VCPU:], local)
        self.pages[taken.component] = step.page
        if move.place is not None:
            seats, seat = local.moves.vcpu, self.vcpus[who][1] if who is not None else 0
            if who is None:
                seats, seat = local.moves.procedure, rows[1][PROCEDURE]
            at = seats.list[seat]
            self.follow(told, -1 if who is None else who, at[0] if at else None)
        return told

    def slot(self, taken: Taken, move: Move) -> int:
        """Which vCPU acts. Where vCPUs are interchangeable, the first that is where the move is made from."""
        here = (taken.component, move.at)
        assert move.column is not None
        if not self.checked.setting.symmetric:
            return move.column - VCPU
        return next(i for i, at in enumerate(self.vcpus) if at == here or (move.at == 0 and at[1] == 0))

    def drift(self, told: Told, seats: list[int], local: Local) -> None:
        """Where each vCPU is afterwards: whoever acts may leave another one with what it looked up before."""
        before, op, who = told.before, told.move.op, told.who
        left = told.step.page.pins < before.pins and op is not Op.UNPIN  # the page is on another frame
        state = self.checked.table.index[before]
        late = op is not None and changes_look_up(self.checked.setting.policy)[state, op]
        for other, (page, seat) in enumerate(self.vcpus):
            if other != who and seat and page == told.page:
                seat = int(local.moves.vcpu.adrift[seat]) if left else seat
                seat = int(local.moves.vcpu.late[seat]) if late else seat
                self.vcpus[other] = (page, seat)
                seats.remove(seat)
        if who is not None:
            self.vcpus[who] = (told.page, max(seats))

    def follow(self, told: Told, actor: int, at: Place | None) -> None:
        if told.move.at == 0:
            starts = self.checked.casts[self.kinds[told.page]]
            every = starts.procedure if actor < 0 else starts.vcpu
            flows = [flow for start in every if told.move.place in start.first.places for flow in start.flows]
            self.runs[actor] = _Run(tuple(flows))
        run = self.runs[actor]
        run.steps.append(told)
        run.at = at
        if at is None:
            self.finished.append(self.runs.pop(actor))


def _label(run: _Run) -> Leads:
    """Find a procedure that takes just these steps, and give each what it says of it. Where it leads then."""
    for flow in run.flows:
        found = _match(flow.entries, run.steps, run.at)
        if found is not None:
            for told, exit in zip(run.steps, found, strict=False):
                assert exit.node is not None
                told.lead, told.world = exit.lead, exit.node.world
                told.text, told.procedure = exit.node.step.text, flow.name
                if isinstance(exit.node.step, Lock):
                    told.text, told.lock = said(exit.node.step), exit.node.step.name
            if run.at is None:
                run.steps[-1].after = found[-1].lead
            return found[-1]
    raise InternalError("no procedure takes the steps of the path")


def _match(exits: tuple[Leads, ...], steps: list[Told], at: Place | None) -> list[Leads] | None:
    """Exits on the way through a procedure, one before each step, and the one to where it stands or ends."""
    place = steps[0].move.place if steps else at
    for exit in exits:
        node = exit.node
        if node is None and place is None:
            return [exit]
        if node is None or place is None or (node.step.op, node.stands._replace(world="")) != (place.op, place.stands):
            continue
        if not steps:
            return [exit]
        if len(steps) == 1 and at is place:  # nothing came of it: it stands there still
            return [exit, exit]
        for onward in _onward(steps[0], node.done, node.refused):
            rest = _match(onward, steps[1:], at)
            if rest is not None:
                return [exit, *rest]
    return None


def _onward(told: Told, done: tuple[Leads, ...], refused: tuple[Leads, ...]) -> list[tuple[Leads, ...]]:
    tried_again = told.move.adrift and told.move.looked and not told.move.stale
    if (told.step.outcome is Outcome.DONE or told.move.op is Op.UNPIN_OLD) and not tried_again:
        return [done]
    return [refused]
