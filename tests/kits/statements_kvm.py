"""Statements of memslots, attributes and conversion: KVM's calls, private memory beside other memory, in place."""

from pagewarden.designs import Hop, Options, Syscall
from pagewarden.designs.convert import share, unshare
from pagewarden.law import EVERY, Data, Op, Outcome, Owner, Reach, View, apply, calls, policy_named, start, tabulate
from pagewarden.law.calls import GUEST_MEMFD, LOG_DIRTY_PAGES, READONLY, Content, FileKind
from pagewarden.sim import Machine
from pagewarden.vocab import PAGE_SIZE, PageRange
from statements import AGAIN, CONVERTED_BACK, LET_GO, after, answers, private, refuses, states

BESIDE, INPLACE, V5 = "guest-memfd", "guest-memfd-inplace", "patch-v5"
EINVAL, DONE, EFAULT = Outcome.EINVAL, Outcome.DONE, Outcome.EFAULT
P, BIG = PAGE_SIZE, 2 << 20

answers(58, calls.memslot_flags(GUEST_MEMFD, version=1), EINVAL)


@states(59)
def unknown_slot_flags() -> None:
    assert {calls.memslot_flags(1 << bit) for bit in range(3, 32)} == {EINVAL}
    assert calls.memslot_flags(GUEST_MEMFD) is DONE


answers(60, calls.memslot_flags(GUEST_MEMFD | LOG_DIRTY_PAGES), EINVAL)
answers(61, calls.memslot_flags(GUEST_MEMFD | READONLY), EINVAL)


def bound(kind: FileKind, offset: int = 0, **more: bool) -> Outcome:
    return calls.memslot_bind(kind, 4 * BIG, offset, BIG, **more)


for number in (62, 63, 64):
    answers(number, bound(FileKind.OTHER), EINVAL)
answers(65, bound(FileKind.FOREIGN), EINVAL)
answers(66, bound(FileKind.NONE), Outcome.EBADF)


@states(67)
def offsets_are_whole_pages() -> None:
    assert {bound(FileKind.OWN, offset) for offset in range(1, P)} == {EINVAL}
    assert bound(FileKind.OWN, P) is DONE


for number in (69, 70):
    twice = bound(FileKind.OWN, bound=True), bound(FileKind.OWN, bound=True, eexist=False)
    answers(number, twice, (Outcome.EEXIST, EINVAL))


@states(71, 72)
def taken_gpas() -> None:
    assert calls.memslot_change(overlaps=True) is Outcome.EEXIST
    for name in EVERY:
        refuses(name, start(policy_named(name)), Op.SLOT_ADD, Outcome.EEXIST)


answers(73, [bound(FileKind.OWN, part * BIG) for part in range(4)], [DONE] * 4)
answers(75, calls.memslot_change(changes=True), EINVAL)
answers(76, [calls.memslot_number(number, 32764) for number in (32763, 32764)], [DONE, EINVAL])
answers(77, calls.attributes(0, P, calls.PRIVATE, flags=1), EINVAL)
answers(78, [calls.attributes(0, P, 1 << bit) for bit in (0, 1, 2, 4)], [EINVAL] * 4)
answers(79, calls.attributes(0, 0, calls.PRIVATE), EINVAL)
answers(80, calls.attributes(calls.WORD - P, 2 * P, calls.PRIVATE), EINVAL)
answers(81, [calls.attributes(1, P, 0), calls.attributes(0, 1, 0)], [EINVAL, EINVAL])


@states(82)
def all_start_shared() -> None:
    page = after(BESIDE, Op.KVM_GET, Op.GUEST_MAP)
    assert (page.owner, page.guest) == (Owner.SHARED, View.SHARED)


@states(83)
def what_is_so_already() -> None:
    shared = after(BESIDE, Op.SHARE)
    assert shared == start(policy_named(BESIDE))
    page = private(BESIDE)
    assert after(BESIDE, Op.UNSHARE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT, page=page) == page


@states(85)
def a_touch_without_a_slot() -> None:
    gone = after(BESIDE, Op.SLOT_DELETE, page=private(BESIDE))
    assert apply(policy_named(BESIDE), gone, Op.GUEST_LOAD).outcome is Outcome.GUEST_FAULT
    refuses(BESIDE, gone, Op.KVM_GET, EFAULT)
    refuses(BESIDE, gone, Op.GUEST_MAP, EFAULT)
    refuses(BESIDE, gone, Op.SLOT_DELETE, EINVAL)


@states(86)
def private_without_a_file() -> None:
    """A slot over ordinary memory: KVM has no store to ask, and no page that is private."""
    closed = after(BESIDE, Op.FD_CLOSE, page=private(BESIDE))
    refuses(BESIDE, closed, Op.GUEST_MAP, EFAULT)


@states(87)
def errno_of_a_memory_fault() -> None:
    for policy in EVERY.values():
        lost = start(policy)._replace(slot=False)
        assert apply(policy, lost, Op.KVM_GET).outcome is EFAULT
        assert apply(policy, lost, Op.GUEST_MAP).outcome is EFAULT


@states(88)
def a_payload_is_for_private_pages() -> None:
    refuses(BESIDE, start(policy_named(BESIDE)), Op.POPULATE, EINVAL)
    made = after(BESIDE, Op.ALLOCATE, Op.UNSHARE_BEGIN, Op.UNSHARE_COMMIT)
    loaded = after(BESIDE, Op.POPULATE, page=made)
    assert after(BESIDE, Op.KVM_GET, Op.GUEST_MAP, page=loaded).data is Data.PUBLIC, "it is not zeroed"
    refuses(BESIDE, after(BESIDE, Op.GUEST_STORE, page=private(BESIDE)), Op.POPULATE, EINVAL)


answers(89, [calls.done_before([DONE, DONE, EINVAL]), calls.done_before([EINVAL, DONE])], [2, EINVAL])


@states(91)
def pages_do_not_move() -> None:
    for name in (BESIDE, INPLACE, "guest-memfd-private", "guest-memfd-shared"):
        refuses(name, private(name), Op.MIGRATE_BEGIN, EINVAL)


@states(92)
def the_guests_call_leaves_to_the_vmm() -> None:
    for steps in (share(Options(), policy_named(BESIDE)), unshare(Options(), policy_named(BESIDE))):
        hops = [line.edge for line in steps if isinstance(line, Hop)]
        assert hops == ["guest>hyp", "hyp>host", "host>hyp", "hyp>guest"]
        assert sum(isinstance(line, Syscall) for line in steps) == 1


@states(93)
def shared_at_first() -> None:
    policy = policy_named(BESIDE)
    page = after(policy, Op.HOST_STORE, Op.KVM_GET, Op.GUEST_MAP)
    assert apply(policy, page, Op.GUEST_LOAD).reached and page.data is Data.PUBLIC
    assert apply(policy, after(policy, Op.GUEST_STORE, page=page), Op.HOST_LOAD).reached


@states(94)
def the_host_reads_the_old_bytes() -> None:
    policy = policy_named(BESIDE)
    shared = after(policy, Op.HOST_STORE, Op.ALLOCATE)
    page = after(policy, Op.UNSHARE_BEGIN, Op.UNSHARE_COMMIT, Op.KVM_GET, Op.GUEST_MAP, Op.GUEST_STORE, page=shared)
    step = apply(policy, page, Op.HOST_LOAD)
    assert step.outcome is DONE and not step.reached, "the guest's bytes are elsewhere"
    assert (page.data, page.beside) == (Data.SECRET, Data.PUBLIC)


@states(95, 96)
def a_page_for_itself() -> None:
    policy = policy_named(BESIDE)
    machine = Machine(policy, 8, pool_pages=0)
    every, middle = PageRange(0, 8), PageRange(3, 4)
    for op in (Op.ALLOCATE, Op.UNSHARE_BEGIN, Op.UNSHARE_COMMIT, Op.KVM_GET, Op.GUEST_MAP):
        machine.apply(op, every)
    neighbours = [machine.page(number) for number in range(8) if number != 3]
    for op in (Op.GUEST_STORE, *LET_GO, Op.SHARE, *AGAIN):
        assert machine.apply(op, middle)[0] is DONE
    assert machine.page(3).owner is Owner.SHARED
    assert [machine.page(number) for number in range(8) if number != 3] == neighbours


@states(97)
def shared_again() -> None:
    policy = policy_named(BESIDE)
    written = after(policy, Op.GUEST_STORE, page=private(BESIDE))
    shared = after(policy, *LET_GO, Op.SHARE, *AGAIN, Op.GUEST_STORE, page=written)
    assert apply(policy, shared, Op.HOST_LOAD).reached and shared.beside is Data.SECRET
    stored = after(policy, Op.HOST_STORE, page=shared)
    assert apply(policy, stored, Op.GUEST_LOAD).reached
    back = after(policy, *LET_GO, Op.UNSHARE_BEGIN, Op.UNSHARE_COMMIT, page=stored)
    assert back.data is Data.SECRET, "the private frame has kept its own"


SLOT = (BIG, 2 * BIG)
answers(100, calls.pre_fault(BIG, BIG, SLOT), (DONE, 0))
answers(101, calls.pre_fault(2 * BIG - P, 2 * P, SLOT), (Outcome.ENOENT, P))
answers(102, calls.pre_fault(2 * BIG, BIG, SLOT), (Outcome.ENOENT, BIG))
answers(103, [calls.pre_fault(2 * BIG - n * P, BIG, SLOT)[1] for n in (1, 2, 3)], [BIG - n * P for n in (1, 2, 3)])
WRONG = [(BIG, 0), (BIG + 1, P), (BIG, 1), (calls.WORD - P, 2 * P)]
answers(104, [calls.pre_fault(gpa, size, SLOT) for gpa, size in WRONG], [(EINVAL, size) for _, size in WRONG])


@states(105)
def private_at_first_in_place() -> None:
    policy = policy_named(INPLACE)
    page = private(INPLACE)
    refuses(policy, page, Op.HOST_LOAD, Outcome.SIGBUS)
    assert apply(policy, page, Op.GUEST_LOAD).reached and page.data is Data.ZERO
    shared = after(policy, Op.GUEST_STORE, *LET_GO, Op.SHARE, Op.HOST_MAP, *AGAIN, page=page)
    assert apply(policy, shared, Op.HOST_LOAD).reached and shared.data is Data.PUBLIC


@states(106)
def shared_at_first_in_place() -> None:
    policy = policy_named(INPLACE)
    shared = after(policy, Op.SHARE, Op.HOST_STORE, Op.KVM_GET, Op.GUEST_MAP)
    assert apply(policy, shared, Op.GUEST_LOAD).reached
    page = after(policy, *CONVERTED_BACK, page=shared)
    assert page.data is Data.PUBLIC and page.owner is Owner.GUEST
    refuses(policy, page, Op.HOST_LOAD, Outcome.SIGBUS)
    refuses(policy, page, Op.HOST_STORE, Outcome.SIGBUS)
    again = after(policy, Op.GUEST_STORE, *LET_GO, Op.SHARE, *AGAIN, page=page)
    assert apply(policy, again, Op.HOST_LOAD).reached


@states(108, 109)
def remembered_before_there_is_a_page() -> None:
    policy = policy_named(INPLACE)
    hole = after(policy, Op.SHARE)
    assert apply(policy, hole, Op.HOST_LOAD).reached, "a later fault obeys it"
    again = after(policy, Op.UNSHARE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_CHECK, Op.UNSHARE_COMMIT, page=hole)
    refuses(policy, again, Op.HOST_LOAD, Outcome.SIGBUS)


@states(112)
def a_child_sees_the_same() -> None:
    policy = policy_named(INPLACE)
    refuses(policy, after(policy, Op.FORK, page=private(INPLACE)), Op.ALIAS_LOAD, Outcome.SIGBUS)
    assert apply(policy, after(policy, Op.SHARE, Op.FORK), Op.ALIAS_LOAD).reached


@states(113, 114)
def a_page_that_is_held() -> None:
    policy = policy_named(INPLACE)
    machine, every = Machine(policy, 8, pool_pages=0), PageRange(0, 8)
    for op in (Op.SHARE, Op.HOST_LOAD, Op.UNSHARE_BEGIN):
        if op is Op.UNSHARE_BEGIN:
            assert machine.apply(Op.GUP_PIN, PageRange(5, 6))[0] is DONE
        assert machine.apply(op, every)[0] is DONE
    assert machine.apply(Op.HOST_ZAP, every)[0] is DONE and machine.apply(Op.HOST_TLBI, every)[0] is DONE
    assert machine.apply(Op.UNSHARE_CHECK, every) == (Outcome.EAGAIN, 5)
    assert machine.apply(Op.UNSHARE_CHECK, PageRange(5, 6)) == (Outcome.EAGAIN, 5)
    assert machine.apply(Op.UNSHARE_ABORT, PageRange(5, 6))[0] is DONE and machine.page(5).owner is Owner.SHARED
    for part in (PageRange(0, 5), PageRange(6, 8)):
        assert machine.apply(Op.UNSHARE_CHECK, part)[0] is machine.apply(Op.UNSHARE_COMMIT, part)[0] is DONE


@states(116)
def the_file_decides() -> None:
    """There is one owner of a page, and both sides' touches ask it."""
    policy = policy_named(INPLACE)
    for page in tabulate(policy).pages:
        if page.owner is Owner.GUEST:
            assert apply(policy, page, Op.HOST_LOAD).outcome is Outcome.SIGBUS
        if page.owner is Owner.SHARED and page.guest is View.NONE and page.slot and not (page.notify or page.closed):
            mapped = after(policy, Op.KVM_GET, Op.GUEST_MAP, page=page)
            assert mapped.guest is View.SHARED


@states(117)
def every_page_has_attributes() -> None:
    assert all(isinstance(page.owner, Owner) for page in tabulate(policy_named(INPLACE)).pages)
    assert start(policy_named(INPLACE)).owner is Owner.GUEST


BAD = [(1, P), (0, 1), (0, 0), (calls.WORD - P, 2 * P)]
answers(118, [calls.inplace_attributes(*bad, calls.PRIVATE)[0] for bad in BAD]
        + [calls.inplace_attributes(0, P, 0, error_offset=1)[0]], [EINVAL] * 5)  # fmt: skip
ZERO, PRESERVE = Content.ZERO, Content.PRESERVE
answers(119, [calls.inplace_attributes(0, P, 0, (ZERO, PRESERVE))[0],
              calls.inplace_attributes(0, P, calls.PRIVATE, (ZERO,))[0]], [EINVAL, Outcome.EOPNOTSUPP])  # fmt: skip


@states(120)
def zeroes_or_the_bytes() -> None:
    policy = policy_named(INPLACE)
    written = after(policy, Op.GUEST_STORE, page=private(INPLACE))
    kept = after(policy, *LET_GO, Op.SHARE, *AGAIN, page=written)
    assert kept.data is Data.PUBLIC and after(policy, *CONVERTED_BACK, page=kept).data is Data.PUBLIC
    zeroed = after(policy, *LET_GO, Op.PUNCH, Op.SHARE, Op.NOTIFY_END, page=written)
    assert apply(policy, zeroed, Op.HOST_LOAD).reached and zeroed.data is Data.ZERO
    assert calls.inplace_attributes(0, P, 0, (ZERO,))[0] is DONE


answers(122, calls.inplace_attributes(4 * P, P, 0, (ZERO,), offered=(PRESERVE,)), (Outcome.EOPNOTSUPP, 4 * P))


@states(123)
def no_old_bytes_in_place() -> None:
    policy = policy_named(INPLACE)
    shared = after(policy, Op.SHARE, Op.HOST_STORE)
    refuses(policy, after(policy, *CONVERTED_BACK, page=shared), Op.HOST_LOAD, Outcome.SIGBUS)


register = calls.notifier_register
answers(136, [register(file=False), register(notifier=False)], [EINVAL, EINVAL])
answers(137, [register(flags=1), register(flags=2)], [DONE, EINVAL])
answers(138, register(claimed=False), Outcome.EOPNOTSUPP)
answers(139, [register(flags=1, first=1), register(flags=1, first=0)], [DONE, EINVAL])


@states(140)
def all_consumers_are_told_first() -> None:
    policy = policy_named(V5)
    told = after(policy, Op.NOTIFY_BEGIN, page=private(V5))
    refuses(policy, told, Op.PUNCH, Outcome.EBUSY)
    punched = after(policy, Op.GUEST_ZAP, Op.GUEST_TLBI, Op.PUNCH, page=told)
    refuses(policy, punched, Op.KVM_GET, Outcome.EAGAIN)


@states(141)
def allocated_is_private() -> None:
    policy = policy_named(V5)
    assert start(policy).owner is Owner.SHARED
    page = after(policy, Op.ALLOCATE)
    assert page.owner is Owner.GUEST and page.host is Reach.NONE
    assert after(policy, Op.PUNCH, page=page).owner is Owner.SHARED
