"""The machine against the law: ranges, blocks, determinism."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pagewarden.designs import DESIGNS, PROCEDURES, Do, Options, Procedure, Steps
from pagewarden.designs.convert import donate, take_back, take_up
from pagewarden.law import EVERY, POLICIES, Op, Outcome, Policy, apply, policy_named, start, tabulate
from pagewarden.sim import Machine, ModelMemory
from pagewarden.sim import pages as states
from pagewarden.sim.pages import BLOCK, MIXED, Pages
from pagewarden.vocab import Event, PageRange, PrivateAccess
from slow_counter import owed, owed_of_range

HYBRID = POLICIES["hybrid"]
PAGES = 3 * BLOCK
ranges = st.tuples(st.integers(0, PAGES), st.integers(0, PAGES)).map(lambda t: PageRange(min(t), max(t)))


@given(st.lists(st.tuples(ranges, st.integers(0, 5)), max_size=30))
@example([(PageRange(0, 200), 1), (PageRange(200, BLOCK), 1)])
@example([(PageRange(0, 9), 1), (PageRange(9, BLOCK), 2), (PageRange(0, 9), 2)])
@example([(PageRange(at, at + 1), state) for at in (0, BLOCK, 2 * BLOCK) for state in (1, 0)])
def test_blocks_and_pages_are_one_array(fills: list[tuple[PageRange, int]]) -> None:
    memory = Pages.uniform(PAGES)
    plain = np.zeros(PAGES, np.uint16)
    for pages_of, state in fills:
        position = pages_of.start
        while position < pages_of.stop:
            found, end = states.run_of(memory, position, pages_of.stop)
            states.fill(memory, position, end, state, found)
            position = int(end)
        plain[pages_of.start : pages_of.stop] = state
    position, seen = 0, np.zeros(PAGES, np.uint16)
    while position < PAGES:
        found, end = states.run_of(memory, position, PAGES)
        assert position < end <= PAGES
        seen[position:end] = found
        position = int(end)
    assert (seen == plain).all()
    assert (memory.expand(0, PAGES) == plain).all()
    mixed = np.flatnonzero(memory.blocks[: len(memory.mixed)] == MIXED)
    slots = memory.mixed[mixed, states.SLOT]
    given = memory.spare[states.FRESH] - memory.spare[states.BACK]
    assert len(set(slots)) == len(slots) == given, "a slot each, none lost"
    parts = plain.reshape(-1, BLOCK)
    alike = [block for block in mixed if (parts[block] == parts[block, 0]).all()]
    assert alike in ([], [memory.spare[states.IDLE] - 1]), "what is alike is closed, but for the last"


class Slow:
    """The same machine page by page, from the readable function, its events by the slow counter."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.pages = policy, [start(policy)] * PAGES
        self.events: Counter[Event] = Counter()

    def apply(self, op: Op, pages: PageRange) -> tuple[Outcome, int]:
        known = {page: apply(self.policy, page, op) for page in set(self.pages[pages.start : pages.stop])}
        steps = [(page, op, known[page].outcome, known[page].page) for page in self.pages[pages.start : pages.stop]]
        for number, step in enumerate(steps, pages.start):
            if step[2] is not Outcome.DONE:
                self.events += owed(self.policy, *step)
                return step[2], number
        self.events += owed_of_range(self.policy, steps)
        self.pages[pages.start : pages.stop] = [after for _, _, _, after in steps]
        return Outcome.DONE, pages.stop


def counted(events: NDArray[np.int64]) -> Counter[Event]:
    return Counter({event: int(events[event]) for event in Event if events[event]})


@settings(max_examples=60)
@given(st.sampled_from(sorted(EVERY)), st.lists(st.tuples(st.sampled_from(Op), ranges), max_size=25))
def test_machine_equals_the_law_page_by_page(name: str, calls: list[tuple[Op, PageRange]]) -> None:
    policy = policy_named(name)
    machine, slow = Machine(policy, PAGES, pool_pages=0), Slow(policy)
    preface = [(Op.ALLOCATE, PageRange(0, PAGES)), (Op.KVM_GET, PageRange(0, 700))]
    for op, pages in [*preface, (Op.DONATE_BEGIN, PageRange(5, 600)), *calls]:
        assert machine.apply(op, pages) == slow.apply(op, pages)
    assert counted(machine.events) == slow.events
    for number in (0, 1, BLOCK - 1, BLOCK, 600, PAGES - 1, *(p.start for _, p in calls if p.count)):
        assert machine.page(number) == slow.pages[number]


@pytest.mark.parametrize("alike", [True, False], ids=["pages alike", "pages that differ"])
def test_a_refusal_is_counted_once_for_a_whole_run_of_pages(alike: bool) -> None:
    """The call ends at the first page: the others were never tried."""
    machine = Machine(HYBRID, 64)
    machine.perform(PROCEDURES["boot"](HYBRID), PageRange(8, 24))
    if not alike:
        assert machine.apply(Op.GUEST_STORE, PageRange(20, 21))[0] is Outcome.DONE
    before = machine.events.copy()
    assert machine.apply(Op.HOST_LOAD, PageRange(8, 24)) == (Outcome.SIGSEGV, 8)
    assert counted(machine.events - before) == {Event.FAULTS: 1, Event.INJECTIONS: 1}
    found = machine.run([Procedure("look", (Do(Op.HOST_LOAD),))], [0], [8], [16], [65536])
    assert found.failed == 1 and counted(found.events) == {Event.FAULTS: 1, Event.INJECTIONS: 1}
    assert machine.apply(Op.HOST_LOAD, PageRange(0, 24))[1] == 8, "the pages before it answer, and leave no trace"
    assert counted(machine.events - before) == {Event.FAULTS: 2, Event.INJECTIONS: 2}


def test_a_tebibyte_costs_nothing_until_touched() -> None:
    before = _resident()
    machine = Machine(HYBRID, 1 << 28)
    whole = PageRange(0, 1 << 28)
    assert machine.apply(Op.ALLOCATE, whole) == (Outcome.DONE, 1 << 28)
    assert sum(array.nbytes for array in machine.memory) < 1 << 30
    assert _resident() - before < 64 << 20
    assert machine.apply(Op.POPULATE, PageRange(12345, 12346))[0] is Outcome.DONE
    assert machine.page(12345).data > machine.page(12344).data


def test_scattered_shares_that_were_taken_back_are_one_state_again() -> None:
    machine, every = Machine(HYBRID, PAGES), PageRange(0, PAGES)
    share = Procedure("share", take_up(HYBRID))
    back: Steps = (Do(Op.UNSHARE_BEGIN), *take_back(HYBRID))
    unshare = Procedure("unshare", back)
    machine.prepare(Procedure("boot", (), setup=donate(HYBRID)), every)
    private = machine.memory.state(0)
    for page in range(1, PAGES, 7):
        machine.perform(share, PageRange(page, page + 1))
    blocks = machine.memory.blocks[: PAGES // BLOCK]
    assert (blocks == MIXED).all()
    for page in range(1, PAGES, 7):
        machine.perform(unshare, PageRange(page, page + 1))
    assert (machine.memory.expand(0, PAGES) == private).all()
    assert (blocks == MIXED).sum() == 1  # the last one: the next share may be there again


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_refused_range_leaves_no_trace() -> None:
    machine = Machine(HYBRID, 64)
    machine.perform(PROCEDURES["boot"](HYBRID), PageRange(0, 8))
    held = machine.page(3)
    assert machine.apply(Op.SHARE, PageRange(3, 4))[0] is Outcome.DONE
    before = [machine.page(page) for page in range(8)]
    assert machine.apply(Op.SHARE, PageRange(0, 8)) == (Outcome.EPERM, 3)
    assert [machine.page(page) for page in range(8)] == before and before[2] == held


def test_the_same_calls_give_the_same_events() -> None:
    def once() -> tuple[dict[str, object], list[int]]:
        machine = Machine(HYBRID, 4096)
        designs = [design(Options(), HYBRID, True) for design in DESIGNS.values() if design.name != "bounce"]
        machine.prepare(designs[1], PageRange(0, 2048))
        random = np.random.default_rng(7)
        which = random.integers(1, len(designs), 500, np.int32)
        counts = random.integers(1, 64, 500)
        found = machine.run(designs, which, random.integers(0, 1900, 500), counts, counts * 4096)
        return found.as_dict(), machine.memory.blocks.tolist()

    assert once() == once()


def test_events_of_a_range_are_the_sum_of_its_pages() -> None:
    machine = Machine(HYBRID, 2048)
    found = machine.perform(PROCEDURES["boot"](HYBRID), PageRange(100, 1900))
    assert found[Event.ALLOCATIONS] == 1800 and found[Event.TLBI] == 1
    assert tabulate(HYBRID).pages[0] == machine.page(99)


def test_deleting_a_slot_takes_the_pages_from_the_guest_and_keeps_the_bytes() -> None:
    memory = ModelMemory(8 << 12, HYBRID)
    memory.private_write(0, b"kept")
    memory.contents.apply(Op.SLOT_DELETE, PageRange(0, 4))
    with pytest.raises(PrivateAccess):
        memory.private_read(0, 4)
    assert memory.contents.peek(0)[:4] == b"kept"
    assert memory.contents.apply(Op.KVM_GET, PageRange(0, 1))[0] is Outcome.EFAULT
    for op in (Op.SLOT_ADD, Op.KVM_GET, Op.GUEST_MAP):
        memory.contents.apply(op, PageRange(0, 1))
    assert memory.private_read(0, 4) == b"kept"


def test_an_entry_that_only_the_first_request_sets_is_one_ranged_call() -> None:
    """The pool's pages are mapped at the first touch: later requests set nothing, and pay no call's part for it."""
    policy = POLICIES["guest-memfd-inplace"]
    machine = Machine(policy, 64, pool_pages=8)
    procedure = DESIGNS["bounce"](Options(), policy, False)
    machine.prepare(procedure, PageRange(0, 64))
    found = machine.run([procedure], [0] * 5, [0] * 5, [4] * 5, [4 * 4096] * 5)
    assert found.completed == 5 and found[Event.HOST_PTE_SET] == 4 and found.ranges["host_pte_set"] == 1


@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_what_is_refused_has_no_ranged_event(policy: Policy) -> None:
    """So a range that is refused counts no call of its own."""
    rules = Machine(policy, 8)._rules
    assert rules.outcome.any() and not rules.ranged[rules.outcome != 0].any()
