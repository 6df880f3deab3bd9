"""What a procedure that was refused leaves behind."""

import pytest

from pagewarden.designs import Do, Options, Steps, follow
from pagewarden.designs.convert import refault, share, unshare
from pagewarden.law import POLICIES, Op, Outcome, Page, Policy, apply, start


def run(policy: Policy, page: Page, steps: Steps) -> Page:
    """The page after a procedure on it; nothing is refused that the procedure has no way on from."""

    def act(line: Do) -> bool:
        nonlocal page
        step = apply(policy, page, line.op)
        assert step.outcome is Outcome.DONE or line.otherwise is not None, f"{line.op.name}: {step.outcome.name}"
        page = step.page
        return step.outcome is Outcome.DONE

    follow(steps, act)
    return page


@pytest.fixture
def inplace() -> tuple[Policy, Page]:
    policy = POLICIES["guest-memfd-inplace"]
    page = start(policy)
    for op in (Op.ALLOCATE, Op.KVM_GET, Op.DONATE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT, Op.GUEST_MAP):
        page = apply(policy, page, op).page
    return policy, run(policy, page, share(Options(), policy))


@pytest.mark.parametrize("retries", [0, 2])
def test_refused_unshare_ends_its_invalidation(inplace: tuple[Policy, Page], retries: int) -> None:
    policy, shared = inplace
    pinned = apply(policy, apply(policy, shared, Op.HOST_LOAD).page, Op.GUP_PIN).page
    after = run(policy, pinned, unshare(Options(retries=retries), policy))
    assert after == pinned and not after.notify


def test_refused_share_ends_its_invalidation(inplace: tuple[Policy, Page]) -> None:
    policy, shared = inplace
    assert run(policy, shared, share(Options(), policy)) == shared


@pytest.mark.parametrize("kept", [False, True])
def test_refault_maps_the_page_with_or_without_a_reference(kept: bool) -> None:
    policy = POLICIES["hybrid"]
    page = start(policy)
    for op in (Op.ALLOCATE, Op.KVM_GET, Op.DONATE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT):
        page = apply(policy, page, op).page
    lost = page if kept else apply(policy, page, Op.SLOT_DELETE).page
    assert lost.kvm == kept
    assert apply(policy, run(policy, lost, refault(policy)), Op.GUEST_LOAD).reached
