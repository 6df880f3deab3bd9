"""What a procedure that was refused leaves behind."""

import pytest

from pagewarden.designs import Do, Options, Steps, Stop
from pagewarden.designs.convert import refault, share, unshare
from pagewarden.law import POLICIES, Op, Outcome, Page, Policy, apply, start


def follow(policy: Policy, page: Page, steps: Steps) -> Page:
    """Run the steps that touch the page, the branch of a refusal where there is one."""
    for step in steps:
        if isinstance(step, Stop):
            break
        if not isinstance(step, Do):
            continue
        result = apply(policy, page, step.op)
        page = result.page
        if result.outcome is not Outcome.DONE:
            if step.otherwise:
                return follow(policy, page, step.otherwise)
            assert step.otherwise is not None, f"{step.op.name}: {result.outcome.name}"
    return page


@pytest.fixture
def inplace() -> tuple[Policy, Page]:
    policy = POLICIES["guest-memfd-inplace"]
    page = start(policy)
    for op in (Op.ALLOCATE, Op.KVM_GET, Op.DONATE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT, Op.GUEST_MAP):
        page = apply(policy, page, op).page
    return policy, follow(policy, page, share(Options(), policy))


@pytest.mark.parametrize("retries", [0, 2])
def test_refused_unshare_ends_its_invalidation(inplace: tuple[Policy, Page], retries: int) -> None:
    policy, shared = inplace
    pinned = apply(policy, apply(policy, shared, Op.HOST_LOAD).page, Op.GUP_PIN).page
    after = follow(policy, pinned, unshare(Options(retries=retries), policy))
    assert after == pinned and not after.notify


def test_refused_share_ends_its_invalidation(inplace: tuple[Policy, Page]) -> None:
    policy, shared = inplace
    assert follow(policy, shared, share(Options(), policy)) == shared


@pytest.mark.parametrize("kept", [False, True])
def test_refault_maps_the_page_with_or_without_a_reference(kept: bool) -> None:
    policy = POLICIES["hybrid"]
    page = start(policy)
    for op in (Op.ALLOCATE, Op.KVM_GET, Op.DONATE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT):
        page = apply(policy, page, op).page
    lost = page if kept else apply(policy, page, Op.SLOT_DELETE).page
    assert lost.kvm == kept
    assert apply(policy, follow(policy, lost, refault(policy)), Op.GUEST_LOAD).reached
