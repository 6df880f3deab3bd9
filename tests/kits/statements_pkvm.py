"""Statements of pKVM's page states, and of the thread's listings."""

from pagewarden.designs import DESIGNS, Options, Procedure
from pagewarden.designs.convert import unshare
from pagewarden.law import (
    EVERY,
    Data,
    Op,
    Outcome,
    Owner,
    Policy,
    Reach,
    apply,
    calls,
    policy_named,
    start,
    tabulate,
)  # fmt: skip
from pagewarden.sim import Machine
from pagewarden.vocab import PAGE_SIZE, Event, PageRange
from statements import DONATED, after, answers, private, refuses, states

PKVM = "pkvm"
EPERM, DONE = Outcome.EPERM, Outcome.DONE
GIVES = (Op.DONATE_HYP, Op.SHARE_HYP, Op.UNSHARE_HYP, Op.SHARE_FFA, Op.UNSHARE_FFA, Op.HYP_PIN, Op.LEND_GUEST)


def all_refused(first: tuple[Op, ...], *ops: Op) -> None:
    page = after(PKVM, Op.ALLOCATE, *first)
    for op in ops:
        refuses(PKVM, page, op, Outcome.ENOENT if op is Op.UNLEND_GUEST else EPERM)


@states(142)
def owned_by_the_hypervisor() -> None:
    all_refused((Op.DONATE_HYP,), *GIVES, Op.UNLEND_GUEST, Op.DONATE_BEGIN)


@states(143)
def given_back() -> None:
    back = (Op.DONATE_HYP, Op.HYP_DONATE_HOST)
    all_refused(back, Op.HYP_DONATE_HOST, Op.UNSHARE_HYP, Op.UNSHARE_FFA, Op.UNLEND_GUEST, Op.HYP_PIN)


@states(144)
def lent_to_the_hypervisor() -> None:
    others = (Op.SHARE_HYP, Op.DONATE_HYP, Op.SHARE_FFA, Op.HYP_DONATE_HOST, Op.LEND_GUEST, Op.UNLEND_GUEST)
    all_refused((Op.SHARE_HYP,), *others, Op.DONATE_BEGIN)
    pinned = after(PKVM, Op.ALLOCATE, Op.SHARE_HYP, Op.HYP_PIN, Op.HYP_PIN, Op.HYP_UNPIN)
    refuses(PKVM, pinned, Op.UNSHARE_HYP, Outcome.EBUSY)
    assert after(PKVM, Op.HYP_UNPIN, Op.UNSHARE_HYP, page=pinned).owner is Owner.HOST


@states(146)
def lent_to_the_secure_world() -> None:
    others = (Op.SHARE_FFA, Op.DONATE_HYP, Op.SHARE_HYP, Op.UNSHARE_HYP, Op.HYP_DONATE_HOST, Op.LEND_GUEST, Op.HYP_PIN)
    all_refused((Op.SHARE_FFA,), *others, Op.UNLEND_GUEST, Op.DONATE_BEGIN)


@states(149)
def refusals_change_nothing() -> None:
    for policy in EVERY.values():
        table = tabulate(policy)
        states_, ops = (table.outcome != DONE).nonzero()
        assert (table.next[states_, ops] == states_).all()


BLOCK = calls.CHUNK
answers(150, [calls.pkvm_range(1, PAGE_SIZE), calls.pkvm_range(BLOCK, 0, BLOCK * PAGE_SIZE),
              calls.pkvm_range(BLOCK, PAGE_SIZE), calls.pkvm_range(2, 0)],
        [DONE, DONE, Outcome.EINVAL, Outcome.EINVAL])  # fmt: skip


@states(151)
def a_share_of_what_is_not_mapped() -> None:
    policy = policy_named(PKVM)
    refuses(policy, start(policy), Op.SHARE, Outcome.ENOENT)
    assert after(policy, *DONATED, Op.SHARE, Op.HOST_MAP).owner is Owner.SHARED


@states(154)
def teardown() -> None:
    policy = policy_named(PKVM)
    written = after(policy, Op.GUEST_STORE, page=private(PKVM))
    step = apply(policy, written, Op.RECLAIM)
    assert step.page.data is Data.ZERO and Event.SCRUBS in step.events
    shared = apply(policy, after(policy, Op.SHARE, Op.HOST_MAP, page=written), Op.RECLAIM)
    assert shared.page.data is Data.PUBLIC and Event.SCRUBS not in shared.events


@states(155)
def a_poisoned_page_at_teardown() -> None:
    taken = after(PKVM, Op.GUEST_STORE, Op.GUP_PIN, Op.KMAP_READ, page=private(PKVM))
    assert after(PKVM, Op.RECLAIM, page=taken).owner is Owner.HOST


@states(156)
def a_users_touch() -> None:
    for op in (Op.HOST_LOAD, Op.HOST_STORE):
        refuses(PKVM, private(PKVM), op, Outcome.SIGSEGV)


@states(157)
def a_uaccess() -> None:
    for op in (Op.UACCESS_READ, Op.UACCESS_WRITE):
        refuses(PKVM, private(PKVM), op, Outcome.EFAULT)


answers(159, [calls.pkvm_meminfo((0, 0, 0)), calls.pkvm_meminfo((0, 1, 0))], [PAGE_SIZE, -3])
answers(160, [calls.pkvm_hypercall((0, 0)), calls.pkvm_hypercall((1, 0)),
              calls.pkvm_hypercall((0, 0), EPERM), calls.pkvm_hypercall((0, 0), Outcome.EHWPOISON)],
        [0, -3, -3, -3])  # fmt: skip


@states(161)
def slots_are_fixed() -> None:
    refuses(PKVM, private(PKVM), Op.SLOT_DELETE, EPERM)


@states(162)
def injected_once_and_never_a_bug() -> None:
    """Of what a guest has: what the hypervisor has, no user space of the host can reach."""
    policy = policy_named(PKVM)
    table = tabulate(policy)
    for state, page in enumerate(table.pages):
        if page.owner in (Owner.GUEST, Owner.OFFERED, Owner.SHARED, Owner.LEAVING) and page.host is Reach.NONE:
            assert not (table.outcome[state] == Outcome.PANIC).any()
            assert table.events[state, :, Event.INJECTIONS].max() <= 1


def totals(name: str, policy: Policy) -> tuple[int, ...]:
    found = Machine(policy, 64, pool_pages=8).perform(DESIGNS[name](Options(), policy, True), PageRange(0, 1))
    events = (Event.ACCESS_SYSCALLS, Event.GUEST_COPIES, Event.HOST_COPIES, Event.HYP_PTE_SET, Event.HYP_PTE_CLEAR,
              Event.TLBI)  # fmt: skip
    return (found.hops.total(), *(found[event] for event in events))


TABLE = {
    163: {"dma-buffer": (4, 0, 1, 1, 0, 0, 0)},
    164: {"bounce": (4, 0, 1, 1, 0, 0, 0)},
    165: {"remap": (8, 2, 0, 0, 1, 1, 2)},
    166: {"pread": (8, 1, 0, 1, 1, 1, 1), "splice": (8, 1, 0, 0, 1, 1, 1)},
    167: {"window": (8, 0, 0, 1, 1, 1, 1), "iommu": (6, 0, 0, 1, 1, 1, 1)},
}
"""Hops, access system calls, guest and host copies, entries set and cleared, TLB invalidations."""
for number, expected in TABLE.items():
    answers(number, {name: totals(name, policy_named("hybrid")) for name in expected}, expected)


@states(168)
def an_unshare_that_is_refused() -> None:
    hybrid = policy_named("hybrid")
    machine, page = Machine(hybrid, 8, pool_pages=0), PageRange(0, 1)
    machine.perform(DESIGNS["window"](Options(lazy=1), hybrid, True), page)
    assert machine.apply(Op.FD_GET, page)[0] is DONE
    before = machine.page(0)
    found = machine.run([Procedure("unshare", unshare(Options(), hybrid))], [0], [0], [1], [4096])
    assert found.completed == 1 and found.hops.total() == 2 and machine.page(0) == before


@states(169)
def a_user_mapping_keeps_it_from_being_bound() -> None:
    policy = policy_named("exclusive-mmap")
    mapped = after(policy, Op.ALLOCATE, Op.HOST_MMAP)._replace(slot=False)
    refuses(policy, mapped, Op.SLOT_ADD, Outcome.EBUSY)
    bound = after(policy, Op.HOST_MUNMAP, Op.SLOT_ADD, page=mapped)
    refuses(policy, after(policy, Op.HOST_MMAP, page=bound), Op.KVM_GET, Outcome.EBUSY)
    assert after(policy, Op.KVM_GET, page=bound).kvm


@states(171)
def a_batch_is_one_call() -> None:
    hybrid = policy_named("hybrid")
    found = Machine(hybrid, 64).perform(DESIGNS["window"](Options(), hybrid, True), PageRange(0, 16))
    assert (found[Event.HYPERCALLS], found[Event.HYP_PTE_SET], found[Event.HYP_PTE_CLEAR]) == (2, 16, 16)
