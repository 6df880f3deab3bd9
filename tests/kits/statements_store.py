"""Statements of files: guest_memfd's calls, mappings, holes; memfd_secret."""

from pagewarden.designs import PROCEDURES, Do
from pagewarden.law import Data, Home, Op, Outcome, Owner, Reach, View, apply, calls, policy_named, start
from pagewarden.law.calls import INIT_SHARED, KEEP_SIZE, MMAP, PUNCH_HOLE
from pagewarden.vocab import PAGE_SIZE, Event
from statements import DONATED, LET_GO, after, answers, private, refuses, states

PRIVATE_FILE, SHARED_FILE, SECRET = "guest-memfd-private", "guest-memfd-shared", "memfd-secret"
FILE = 4 * PAGE_SIZE
EINVAL, DONE = Outcome.EINVAL, Outcome.DONE


@states(1)
def sizes_are_whole_pages() -> None:
    assert {calls.gmem_create(size) for size in range(1, PAGE_SIZE)} == {EINVAL}
    assert calls.gmem_create(PAGE_SIZE) is DONE


answers(2, [calls.gmem_create(size) for size in (0, -PAGE_SIZE)], [EINVAL, EINVAL])


@states(3)
def each_flag_is_offered_or_refused() -> None:
    for bit in range(64):
        flag = 1 << bit
        assert calls.gmem_create(PAGE_SIZE, flag) is (DONE if flag & (MMAP | INIT_SHARED) else EINVAL)


@states(4)
def a_default_vm_has_both_kinds_of_file() -> None:
    assert start(policy_named(PRIVATE_FILE)).owner is Owner.GUEST
    assert start(policy_named(SHARED_FILE)).owner is Owner.SHARED


@states(7, 8, 9, 10)
def no_file_io() -> None:
    for name in (PRIVATE_FILE, SHARED_FILE, "guest-memfd", "guest-memfd-inplace"):
        refuses(name, after(name, Op.ALLOCATE), Op.FD_GET, EINVAL)


answers(11, calls.gmem_resize(), EINVAL)


@states(12)
def the_file_outlives_the_vm() -> None:
    gone = after("guest-memfd", Op.SLOT_DELETE, page=private("guest-memfd"))
    assert after("guest-memfd", Op.PUNCH, Op.ALLOCATE, page=gone).home is Home.RESIDENT


@states(13)
def closing_zaps_and_keeps() -> None:
    written = after(PRIVATE_FILE, Op.GUEST_STORE, page=private(PRIVATE_FILE))
    closed = after(PRIVATE_FILE, Op.FD_CLOSE, page=written)
    assert (closed.guest, closed.data, closed.home) == (View.NONE, Data.SECRET, Home.RESIDENT)


@states(14)
def a_closed_file_is_no_memory() -> None:
    closed = after(PRIVATE_FILE, Op.FD_CLOSE, page=private(PRIVATE_FILE))
    refuses(PRIVATE_FILE, closed, Op.KVM_GET, Outcome.EFAULT)
    refuses(PRIVATE_FILE, closed, Op.GUEST_MAP, Outcome.EFAULT)


answers(15, [calls.gmem_mmap(0), calls.gmem_mmap(INIT_SHARED)], [Outcome.ENODEV, Outcome.ENODEV])
answers(16, [calls.gmem_mmap(MMAP, shared=False), calls.gmem_mmap(MMAP)], [EINVAL, DONE])


@states(17)
def a_private_file_answers_nobody() -> None:
    for page in (start(policy_named(PRIVATE_FILE)), private(PRIVATE_FILE)):
        refuses(PRIVATE_FILE, page, Op.HOST_LOAD, Outcome.SIGBUS)
        refuses(PRIVATE_FILE, page, Op.HOST_STORE, Outcome.SIGBUS)


@states(19)
def a_shared_file_is_filled_and_read_back() -> None:
    written = after(SHARED_FILE, Op.HOST_STORE)
    assert written.data is Data.PUBLIC and apply(policy_named(SHARED_FILE), written, Op.HOST_LOAD).reached


@states(23)
def dropping_entries_keeps_the_file() -> None:
    written = after(SHARED_FILE, Op.HOST_STORE, Op.HOST_DROP)
    step = apply(policy_named(SHARED_FILE), written, Op.HOST_LOAD)
    assert step.reached and step.page.data is Data.PUBLIC


@states(24)
def host_and_guest_see_each_other() -> None:
    page = after(SHARED_FILE, Op.HOST_STORE, Op.HOST_MMAP, Op.HOST_MUNMAP, Op.KVM_GET, Op.GUEST_MAP)
    policy = policy_named(SHARED_FILE)
    assert apply(policy, page, Op.GUEST_LOAD).reached
    assert apply(policy, after(policy, Op.GUEST_STORE, page=page), Op.HOST_LOAD).reached


@states(26)
def guest_faults_take_the_files_pages() -> None:
    for name in (PRIVATE_FILE, SHARED_FILE):
        assert after(name, Op.KVM_GET, Op.GUEST_MAP).home is Home.RESIDENT, "whatever the host maps"
        moved = after(name, Op.MREMAP)
        assert after(name, Op.KVM_GET, Op.GUEST_MAP, page=moved).home is Home.RESIDENT


def allocation(offset: int, length: int, mode: int = KEEP_SIZE) -> Outcome:
    return calls.gmem_fallocate(FILE, mode, offset, length)


def hole(offset: int, length: int) -> Outcome:
    return allocation(offset, length, KEEP_SIZE | PUNCH_HOLE)


answers(27, allocation(0, FILE), DONE)


@states(29)
def other_modes_are_not_supported() -> None:
    for bit in range(2, 31):
        assert allocation(0, FILE, KEEP_SIZE | 1 << bit) is Outcome.EOPNOTSUPP
    assert allocation(0, FILE, 0) is Outcome.EOPNOTSUPP


answers(30, allocation(FILE, PAGE_SIZE), EINVAL)
answers(31, allocation(FILE + PAGE_SIZE, PAGE_SIZE), EINVAL)
answers(32, hole(FILE, PAGE_SIZE), DONE)
answers(33, hole(FILE + PAGE_SIZE, PAGE_SIZE), DONE)
answers(34, hole(PAGE_SIZE - 1, PAGE_SIZE), EINVAL)
answers(35, hole(PAGE_SIZE, PAGE_SIZE - 1), EINVAL)


@states(36)
def an_aligned_hole() -> None:
    assert hole(PAGE_SIZE, PAGE_SIZE) is DONE
    assert after(SHARED_FILE, Op.ALLOCATE, Op.PUNCH).home is Home.HOLE


@states(37)
def and_the_page_again() -> None:
    for name in (PRIVATE_FILE, SHARED_FILE):
        page = after(name, Op.ALLOCATE, Op.PUNCH, Op.ALLOCATE)
        assert (page.home, page.data, page.owner) == (Home.RESIDENT, Data.ZERO, start(policy_named(name)).owner)


P = PAGE_SIZE
HOLES = [(0, 1), (0, P - 1), (0, P + 1), (1, 1), (1, P - 1), (1, P), (1, P + 1), (P, 1), (P, P - 1), (P, P + 1)]
for number, (at, bytes_) in enumerate(HOLES, 38):
    answers(number, hole(at, bytes_), EINVAL)


@states(48)
def a_hole_has_an_order() -> None:
    """Neither can the truncation come before the invalidation, nor KVM map the page before its end."""
    policy = policy_named(PRIVATE_FILE)
    ops = [line.op for line in PROCEDURES["punch"](policy).steps if isinstance(line, Do)]
    assert ops == [*LET_GO, Op.PUNCH, Op.NOTIFY_END]
    page = private(PRIVATE_FILE)
    refuses(policy, page, Op.PUNCH, Outcome.EBUSY)
    punched = after(policy, *LET_GO, Op.PUNCH, page=page)
    refuses(policy, punched, Op.KVM_GET, Outcome.EAGAIN)
    assert after(policy, Op.NOTIFY_END, Op.KVM_GET, page=punched).home is Home.RESIDENT


@states(49)
def one_flush_and_only_for_something() -> None:
    policy = policy_named(PRIVATE_FILE)
    zapped = after(policy, Op.NOTIFY_BEGIN, Op.GUEST_ZAP, page=private(PRIVATE_FILE))
    assert apply(policy, zapped, Op.GUEST_TLBI).events == (Event.TLBI,)
    nothing = after(policy, Op.ALLOCATE, Op.NOTIFY_BEGIN, Op.GUEST_ZAP)
    assert apply(policy, nothing, Op.GUEST_TLBI).events == ()


answers(50, calls.gmem_fallocate(FILE, KEEP_SIZE, 0, FILE, signalled=True), Outcome.EINTR)

answers(124, [calls.secret_create(flags) for flags in (0, calls.CLOEXEC, 1)], [DONE, DONE, EINVAL])
answers(125, calls.secret_create(0, enabled=False), Outcome.ENOSYS)


@states(126)
def no_file_io_of_secrets() -> None:
    refuses(SECRET, after(SECRET, Op.ALLOCATE), Op.FD_GET, EINVAL)


answers(127, calls.secret_mmap(True, 2 * P, 7 * P, 8 * P), Outcome.EAGAIN)
answers(128, calls.secret_mmap(True, P, 7 * P, 8 * P), DONE)
answers(129, calls.secret_mmap(False, P, 0, 8 * P), EINVAL)


@states(130, 131)
def no_pin_of_secrets() -> None:
    """Both take the page by GUP."""
    refuses(SECRET, after(SECRET, Op.HOST_STORE), Op.GUP_PIN, Outcome.EFAULT)


answers(132, [calls.secret_resize(0), calls.secret_resize(P)], [DONE, EINVAL])
answers(133, [calls.host_fault(P, P - 1), calls.host_fault(P, P)], [DONE, Outcome.SIGBUS])


@states(134)
def secrets_are_out_of_the_direct_map() -> None:
    name = f"{SECRET}+mprotect"
    policy = policy_named(name)
    ops = [op for op in DONATED if op is not Op.KVM_GET]
    written = after(policy, *ops, Op.GUEST_STORE)
    step = apply(policy, written, Op.KCORE_READ)
    assert step.outcome is DONE and not step.reached, "zeroes"
    gone = apply(policy, written, Op.RECLAIM)
    assert Event.SCRUBS in gone.events and gone.page.data is Data.ZERO


@states(135)
def secrets_stay_where_they_are() -> None:
    written = after(SECRET, Op.HOST_STORE)
    refuses(SECRET, written, Op.MIGRATE_BEGIN, Outcome.EBUSY)
    refuses(SECRET, written, Op.CORE_DUMP, Outcome.EFAULT)
    assert after(SECRET, Op.HOST_DROP, page=written).host is Reach.LIVE
    refuses(policy_named(SECRET).with_("locked-mapping"), written, Op.HOST_DROP, EINVAL)
