"""The law of one page, in the stories of single pages: what is done, what is refused, and what is left."""

import pytest

from pagewarden.law import POLICIES, Data, Op, Outcome, Owner, View, apply, policy_named, start
from pagewarden.law.properties import ALWAYS
from pagewarden.vocab import Event
from statements import DONATED, LET_GO, after, private

SHARED = (*DONATED, Op.SHARE, Op.HOST_MAP)
UNSHARE = (Op.UNSHARE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.IOTLB_INV, Op.UNSHARE_COMMIT)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("pkvm-2022", Outcome.PANIC), ("pkvm", Outcome.DONE), ("memfd", Outcome.DONE)],
)
def test_strace_of_a_private_page(name: str, outcome: Outcome) -> None:
    policy = policy_named(name)
    pinned = after(policy, *DONATED, Op.GUEST_STORE, Op.GUP_PIN)
    step = apply(policy, pinned, Op.KMAP_READ)
    assert step.outcome is outcome
    assert ALWAYS["host-never-reads-private"](policy, pinned, Op.KMAP_READ, step) == (name == "memfd")
    if name == "pkvm":
        assert step.page.owner is Owner.POISON and step.page.data is Data.ZERO
        assert apply(policy, step.page, Op.GUEST_LOAD).outcome is Outcome.GUEST_KILLED
        assert apply(policy, step.page, Op.RECLAIM).outcome is Outcome.DONE


@pytest.mark.parametrize("name", ["hybrid", "memfd-secret+mprotect", "guest-memfd-private", "uffd-window"])
def test_gup_of_a_private_page_is_refused(name: str) -> None:
    policy = policy_named(name)
    assert apply(policy, private(policy), Op.GUP_PIN).outcome is Outcome.EFAULT


def test_memfd_secret_has_no_notifier_for_kvm() -> None:
    policy = POLICIES["memfd-secret"]
    assert apply(policy, after(policy, Op.ALLOCATE), Op.KVM_GET).outcome is Outcome.EFAULT


@pytest.mark.parametrize(
    "name", ["hybrid", "pkvm", "pkvm-2022", "uffd-window", "uffd-window+isolated", "uffd-rwp+isolated", "memfd"]
)
def test_conversion_keeps_the_bytes(name: str) -> None:
    policy = policy_named(name)
    shared = after(policy, *DONATED, Op.GUEST_STORE, Op.SHARE, Op.HOST_MAP)
    assert shared.data is Data.PUBLIC
    back = after(policy, *UNSHARE, page=shared)
    assert back.data is Data.PUBLIC and back.owner is Owner.GUEST


def test_a_held_page_does_not_become_private() -> None:
    hybrid = POLICIES["hybrid"]
    held = after(hybrid, *SHARED, Op.FD_GET)
    step = apply(hybrid, held, Op.UNSHARE_BEGIN)
    assert step.outcome is Outcome.EAGAIN and step.page == held


@pytest.mark.parametrize("name", ["uffd-window+isolated", "uffd-rwp+isolated"])
def test_replacing_leaves_the_pin_with_the_old_frame(name: str) -> None:
    policy = policy_named(name)
    pinned = after(policy, *SHARED, Op.GUP_PIN)
    back = after(policy, *UNSHARE, Op.GUEST_STORE, page=pinned)
    assert back.old_pin and back.pins == 0
    assert not apply(policy, back, Op.KMAP_READ).reached


@pytest.mark.parametrize("pins", [(), (Op.GUP_PIN,)])
def test_what_could_be_protected_moves_when_it_is_pinned(pins: tuple[Op, ...]) -> None:
    policy = policy_named("uffd-rwp+isolated")
    leaving = after(policy, *SHARED, *pins, *UNSHARE[:-1])
    assert (Event.HYP_COPIES in apply(policy, leaving, Op.UNSHARE_COMMIT).events) == bool(pins)


def test_commit_before_teardown_is_refused() -> None:
    hybrid = POLICIES["hybrid"]
    leaving = after(hybrid, *SHARED, Op.UNSHARE_BEGIN, Op.HOST_ZAP)
    assert apply(hybrid, leaving, Op.UNSHARE_COMMIT).outcome is Outcome.EBUSY


REFUSED_FROM = {  # arch/arm64/kvm/hyp/nvhe/mem_protect.c pkvm_ownership_selftest
    Op.DONATE_HYP: (
        Op.DONATE_HYP, Op.SHARE_HYP, Op.UNSHARE_HYP, Op.SHARE_FFA, Op.UNSHARE_FFA, Op.LEND_GUEST, Op.UNLEND_GUEST,
    ),
    Op.SHARE_HYP: (Op.SHARE_HYP, Op.DONATE_HYP, Op.SHARE_FFA, Op.UNSHARE_FFA, Op.HYP_DONATE_HOST, Op.LEND_GUEST),
    Op.SHARE_FFA: (
        Op.SHARE_FFA, Op.DONATE_HYP, Op.SHARE_HYP, Op.UNSHARE_HYP, Op.HYP_DONATE_HOST, Op.LEND_GUEST,
    ),
}  # fmt: skip


@pytest.mark.parametrize("first", REFUSED_FROM)
def test_ownership_selftest(first: Op) -> None:
    pkvm = POLICIES["pkvm"]
    page = after(pkvm, Op.ALLOCATE, first)
    for op in REFUSED_FROM[first]:
        step = apply(pkvm, page, op)
        assert step.outcome is (Outcome.ENOENT if op is Op.UNLEND_GUEST else Outcome.EPERM), op.name
        assert step.page == page


def test_a_device_that_may_still_read_keeps_a_page_from_becoming_private() -> None:
    """The entry of the IOMMU is gone, its IOTLB may have it: mail of 5 April 2022, IOMMU entries of recent DMA."""
    hybrid = POLICIES["hybrid"]
    used = after(hybrid, *SHARED, Op.FD_GET, Op.DMA_MAP, Op.DMA_UNMAP, Op.UNPIN)
    leaving = after(hybrid, Op.UNSHARE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, page=used)
    assert apply(hybrid, leaving, Op.UNSHARE_COMMIT).outcome is Outcome.EBUSY
    assert after(hybrid, Op.IOTLB_INV, Op.UNSHARE_COMMIT, page=leaving).owner is Owner.GUEST


@pytest.mark.parametrize(("name", "keeps"), [("hybrid", True), ("memfd", False), ("uffd-window", False)])
def test_a_host_that_is_not_trusted_keeps_the_swap_copy(name: str, keeps: bool) -> None:
    policy = policy_named(name)
    out = (*LET_GO, Op.SWAP_OUT)
    back = after(policy, *DONATED, Op.GUEST_STORE, *out, Op.SWAP_IN)
    assert back.swap_old == keeps and back.data is Data.SECRET
    again = after(policy, Op.SWAP_OUT, page=back)
    assert apply(policy, again, Op.SWAP_IN_STALE).outcome is (Outcome.EBADMSG if keeps else Outcome.ENOENT)


@pytest.mark.parametrize("name", ["guest-memfd", "uffd-window+isolated"])
def test_who_pinned_a_frame_that_was_left_keeps_it_through_further_conversions(name: str) -> None:
    policy = policy_named(name)
    pinned = after(policy, *LET_GO, Op.SHARE, Op.HOST_MAP, Op.HOST_LOAD, Op.GUP_PIN, page=private(policy))
    back = after(policy, *UNSHARE, page=pinned)
    assert back.old_pin and not back.pins
    twice = after(policy, Op.SHARE, Op.HOST_MAP, *UNSHARE, page=back)
    assert twice.old_pin, "nobody has let go"
    assert not after(policy, Op.UNPIN, page=twice).old_pin
    assert not after(policy, *UNSHARE, page=after(policy, Op.UNPIN, page=pinned)).old_pin


@pytest.mark.parametrize("op", [Op.SHARE_HYP, Op.DONATE_HYP, Op.SHARE_FFA, Op.LEND_GUEST])
def test_a_border_is_crossed_by_pages_that_are_there(op: Op) -> None:
    assert apply(POLICIES["pkvm"], start(POLICIES["pkvm"]), op).outcome is Outcome.EPERM


@pytest.mark.parametrize("name", ["patch-v5", "guest-memfd", "guest-memfd-inplace"])
@pytest.mark.parametrize("op", [Op.SHARE, Op.UNSHARE_COMMIT], ids=lambda op: op.key)
def test_a_page_changes_flavour_when_the_guests_old_view_is_gone(name: str, op: Op) -> None:
    policy = policy_named(name)
    page = private(policy)
    if op is Op.UNSHARE_COMMIT:
        page = after(policy, *LET_GO, Op.SHARE, Op.NOTIFY_END, Op.KVM_GET, page=page)
        page = after(policy, Op.UNSHARE_BEGIN, page=after(policy, page=page))._replace(guest=View.SHARED)
    assert apply(policy, page, op).outcome is Outcome.EBUSY
    stale = after(policy, Op.NOTIFY_BEGIN, Op.GUEST_ZAP, page=page)
    assert apply(policy, stale, op).outcome is Outcome.EBUSY, "a TLB may have it still"
    assert apply(policy, after(policy, *LET_GO, page=page), op).outcome is Outcome.DONE


def test_a_page_that_is_lent_comes_back_without_entry_and_reference() -> None:
    pkvm = POLICIES["pkvm"]
    lent = after(pkvm, Op.ALLOCATE, Op.LEND_GUEST, Op.KVM_GET, Op.GUEST_MAP)
    assert lent.kvm and lent.guest is View.PRIVATE
    back = after(pkvm, Op.UNLEND_GUEST, page=lent)
    assert back.owner is Owner.HOST and back.guest is View.NONE and not back.kvm
