"""The counts of the mail's listings, request by request."""

import pytest

from pagewarden.designs import DESIGNS, PROCEDURES, WITH_PROPOSED, Copy, Options, Procedure, Syscall, design_named
from pagewarden.designs.convert import unshare
from pagewarden.designs.steps import Each, Take
from pagewarden.law import EVERY, POLICIES, Op, Outcome, Owner, Policy
from pagewarden.sim import Counts, Machine
from pagewarden.vocab import EDGES, HUGE_PAGE, Event, PageRange, Refused, UserMistake

HYBRID = POLICIES["hybrid"]
TABLE = {  # hops, access syscalls, guest copies, host copies, PTE set, PTE clear, TLBI (mail of 5 April 2022)
    "dma-buffer": (4, 0, 1, 1, 0, 0, 0),
    "bounce": (4, 0, 1, 1, 0, 0, 0),
    "remap": (8, 2, 0, 0, 1, 1, 2),
    "pread": (8, 1, 0, 1, 1, 1, 1),
    "splice": (8, 1, 0, 0, 1, 1, 1),
    "window": (8, 0, 0, 1, 1, 1, 1),
    "iommu": (6, 0, 0, 1, 1, 1, 1),
}
CONVERTING = ("remap", "pread", "splice", "window", "iommu")
every_design = pytest.mark.parametrize("name", TABLE)


def count(name: str, pages: int = 1, write: bool = True, options: Options | None = None) -> Counts:
    machine = Machine(HYBRID, 512)
    found = machine.perform(DESIGNS[name](options or Options(), HYBRID, write), PageRange(0, pages))
    assert (found.completed, found.failed) == (1, 0), found.refusal
    return found


def summary(found: Counts) -> tuple[int, ...]:
    events = (
        Event.ACCESS_SYSCALLS, Event.GUEST_COPIES, Event.HOST_COPIES,
        Event.HYP_PTE_SET, Event.HYP_PTE_CLEAR, Event.TLBI,
    )  # fmt: skip
    return (found.hops.total(), *(found[event] for event in events))


@every_design
@pytest.mark.parametrize("write", [True, False])
def test_one_page(name: str, write: bool) -> None:
    assert summary(count(name, write=write)) == TABLE[name]


@pytest.mark.parametrize("write", [True, False])
def test_a_region_of_the_device_s_own_is_a_pool_to_the_law(write: bool) -> None:
    """VIRTIO_F_DMB as proposed: the driver copies, and nothing that is private converts. No guest of `run` has it."""
    proposed = design_named("dmb")(Options(), HYBRID, write)
    assert summary(Machine(HYBRID, 512).perform(proposed, PageRange(0, 1))) == TABLE["bounce"]
    assert not WITH_PROPOSED["dmb"].converts(HYBRID) and "proposed" in proposed.title
    full = Machine(HYBRID, 64, pool_pages=2).perform(proposed, PageRange(0, 3))
    assert (full.completed, full.failed) == (0, 1)
    assert "dmb" not in DESIGNS


@every_design
def test_a_window_on_a_stock_kernel_counts_the_same(name: str) -> None:
    window = POLICIES["uffd-window"]
    assert summary(Machine(window, 512).perform(DESIGNS[name](Options(), window, True), PageRange(0, 1))) == TABLE[name]


@every_design
def test_64_kib_converts_in_one_call(name: str) -> None:
    hops, syscalls, guest, host, entries, cleared, tlbi = TABLE[name]
    assert summary(count(name, pages=16)) == (hops, syscalls, guest, host, 16 * entries, 16 * cleared, tlbi)
    assert count(name, pages=16)[Event.HOST_COPY_BYTES] == host * 65536


@every_design
def test_without_batch_each_page_is_a_call(name: str) -> None:
    hops, syscalls, guest, host, entries, cleared, tlbi = TABLE[name]
    by_page = {"dma-buffer": 0, "bounce": 0, "iommu": 1}.get(name, 2)  # conversions by hypercall
    found = count(name, pages=16, options=Options(batch=False))
    extra = 15 if name in CONVERTING else 0
    expected = (hops + 2 * 15 * by_page, syscalls, guest, host, 16 * entries, 16 * cleared, tlbi + extra)
    assert summary(found) == expected
    assert found[Event.HYPERCALLS] == 16 * by_page


@pytest.mark.parametrize("name", ["remap", "pread", "splice", "window"])
def test_sync_notify_costs_two_hops_a_share(name: str) -> None:
    assert count(name, options=Options(sync_notify=True)).hops.total() == TABLE[name][0] + 2
    assert count(name, pages=4, options=Options(sync_notify=True, batch=False)).hops.total() == 4 + 4 * 4 + 4 * 2


@pytest.mark.parametrize("name", ["dma-buffer", "bounce", "window", "iommu"])
def test_in_place_saves_the_host_copy(name: str) -> None:
    assert count(name, options=Options(in_place=True))[Event.HOST_COPIES] == 0


def test_every_hop_has_an_edge_and_worlds_follow() -> None:
    for name in TABLE:
        found = count(name)
        assert set(found.hops) <= set(EDGES)
        assert found.hops["guest>hyp"] == found.hops["hyp>guest"]
        assert found.hops["hyp>host"] == found.hops["host>hyp"]


def test_huge_pages_change_counts_only() -> None:
    machine = Machine(HYBRID, 64, page_size=HUGE_PAGE)
    found = machine.perform(DESIGNS["window"](Options(), HYBRID, True), PageRange(0, 1), size=HUGE_PAGE)
    assert summary(found) == TABLE["window"] and found[Event.HOST_COPY_BYTES] == HUGE_PAGE


def held(retries: int) -> tuple[Machine, Counts]:
    machine = Machine(HYBRID, 512)
    design = DESIGNS["window"](Options(retries=retries, lazy=1), HYBRID, True)
    machine.perform(design, PageRange(0, 1))  # lazy: the page stays shared
    assert machine.apply(Op.FD_GET, PageRange(0, 1))[0] is Outcome.DONE
    steps = unshare(Options(retries=retries), HYBRID)
    return machine, machine.run([Procedure("unshare", steps)], [0], [0], [1], [4096])


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_unshare_of_a_held_page_is_refused_and_the_guest_learns_it(retries: int) -> None:
    machine, found = held(retries)
    assert found.completed == 1 and found[Event.HYP_PTE_CLEAR] == 0
    assert found.hops.total() == 2 * (1 + retries) and found[Event.HYPERCALLS] == 1 + retries
    assert machine.page(0).owner is Owner.SHARED, "the page stays shared"


def test_an_exhausted_pool_stops_the_request_and_gives_back() -> None:
    machine = Machine(HYBRID, 64, pool_pages=8)
    design = DESIGNS["bounce"](Options(), HYBRID, True)
    machine.prepare(design, PageRange(0, 16))
    found = machine.run([design], [0], [0], [9], [36864])
    assert (found.completed, found.failed, found.hops.total()) == (0, 1, 0)
    again = machine.run([design], [0, 0], [0, 8], [8, 8], [32768, 32768])
    assert (again.completed, again.failed) == (2, 0)


def test_a_request_that_is_refused_gives_back_what_it_had_taken() -> None:
    """The first one's pages are nobody's yet: its guest's load fails when it has the whole pool."""
    machine = Machine(HYBRID, 64, pool_pages=8)
    design = DESIGNS["bounce"](Options(), HYBRID, True)
    machine.prepare(design, PageRange(0, 8))
    found = machine.run([design], [0, 0], [8, 0], [8, 8], [32768, 32768])
    assert (found.completed, found.failed) == (1, 1) and found.refusal is not None


def test_a_full_ring_falls_back_to_the_fault() -> None:
    machine = Machine(HYBRID, 64, ring_entries=4)
    design = DESIGNS["iommu"](Options(), HYBRID, True)
    fits, full = machine.perform(design, PageRange(0, 4)), machine.perform(design, PageRange(8, 16))
    assert fits.hops.total() == 6 and fits[Event.FAULTS] == 0
    assert full.completed == 1 and full.hops.total() == 8 and full[Event.FAULTS] == 1
    assert full[Event.HYP_PTE_SET] == full[Event.HYP_PTE_CLEAR] == 8


@pytest.mark.parametrize(
    ("name", "hops", "events"),
    [
        ("boot", 4, {Event.FAULTS: 1, Event.ALLOCATIONS: 1, Event.PINS: 1, Event.HYP_PTE_CLEAR: 1, Event.TLBI: 1,
                     Event.GUEST_PTE_SET: 1}),
        ("populate", 2, {Event.ALLOCATIONS: 1, Event.HOST_COPIES: 1, Event.HYP_PTE_CLEAR: 1, Event.GUEST_PTE_SET: 1}),
        ("teardown", 2, {Event.SCRUBS: 1, Event.HYP_PTE_SET: 1, Event.GUEST_PTE_CLEAR: 1, Event.NOTIFICATIONS: 1}),
        ("migrate-page", 2, {Event.HYP_COPIES: 1, Event.SCRUBS: 1, Event.NOTIFICATIONS: 1, Event.GUEST_PTE_SET: 1}),
        ("swap-out", 2, {Event.HYP_COPIES: 1, Event.SCRUBS: 1, Event.NOTIFICATIONS: 1}),
        ("swap-in", 4, {Event.HYP_COPIES: 1, Event.ALLOCATIONS: 1, Event.FAULTS: 1, Event.GUEST_PTE_SET: 1}),
        ("punch", 0, {Event.SCRUBS: 0, Event.NOTIFICATIONS: 1, Event.GUEST_PTE_CLEAR: 1}),
    ],
)  # fmt: skip
def test_other_procedures(name: str, hops: int, events: dict[Event, int]) -> None:
    found = Machine(HYBRID, 64).perform(PROCEDURES[name](HYBRID), PageRange(0, 1))
    assert (found.completed, found.failed) == (1, 0), found.refusal
    assert found.hops.total() == hops
    assert {event: found[event] for event in events} == events


@pytest.mark.parametrize("policy", EVERY.values(), ids=EVERY)
def test_strace_under_every_policy(policy: Policy) -> None:
    if policy.name == "memfd-secret":
        with pytest.raises(Refused, match="kvm_get"):  # no guest on KVM ever gets a page of it
            Machine(policy, 64).perform(PROCEDURES["strace"](policy), PageRange(0, 1))
        return
    found = Machine(policy, 64).perform(PROCEDURES["strace"](policy), PageRange(0, 1))
    reads = {
        "memfd", "anonymous",  # the secret
        "pkvm", "pkvm-iommu",  # zeroes of a page that was reclaimed for it
        "patch-v5", "guest-memfd",  # the other memory, as it was while shared
        "guest-memfd-shared", "guest-memfd-shared+cooperating",  # what is shared as a whole
    }  # fmt: skip
    assert bool(found.completed) == (policy.name in reads)


def test_a_typo_lists_the_designs() -> None:
    with pytest.raises(UserMistake, match="window"):
        design_named("windoww")


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("pages", [4, 16])
def test_a_procedure_does_the_same_wherever_it_stands_among_others(name: str, pages: int) -> None:
    """Branches, too: the pool is full at 16 pages, and so is the ring."""
    design = DESIGNS[name](Options(), HYBRID, True)
    found = []
    for procedures in ([design], [DESIGNS["remap"](Options(), HYBRID, True), design]):
        machine = Machine(HYBRID, 64, pool_pages=8, ring_entries=8)
        machine.prepare(design, PageRange(0, pages))
        made = machine.run(procedures, [len(procedures) - 1], [0], [pages], [pages * 4096])
        found.append((made.events.tolist(), +made.hops, +made.syscalls, +made.ranges, made.completed, made.failed))
    assert found[0] == found[1]


def test_each_page_is_gone_through_from_the_first_step_to_the_last() -> None:
    inside = Syscall("first", ""), Syscall("last", "")
    found = Machine(HYBRID, 8).perform(Procedure("each", (Each(inside), Syscall("after", ""))), PageRange(0, 3))
    assert found.syscalls == {"first": 3, "last": 3, "after": 1} and found[Event.ACCESS_SYSCALLS] == 7


@pytest.mark.parametrize("name", DESIGNS)
def test_the_host_copies_before_it_writes_to_the_disk_and_after_it_reads(name: str) -> None:
    for write in (True, False):
        steps = DESIGNS[name](Options(), HYBRID, write).steps
        flat = [inner for step in steps for inner in (step.then if isinstance(step, Take) else (step,))]
        kinds = ["disk" if isinstance(step, Syscall) and not step.access else step for step in flat]
        copies = [at for at, step in enumerate(flat) if isinstance(step, Copy) and step.side == "host"]
        assert all((at < kinds.index("disk")) == write for at in copies), (name, write)
