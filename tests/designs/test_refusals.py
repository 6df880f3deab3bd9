"""What a procedure that was refused leaves behind."""

import pytest

from pagewarden.designs import Do, Options, Steps, follow
from pagewarden.designs.convert import donate, refault, share, unshare
from pagewarden.law import POLICIES, Op, Outcome, Page, Policy, Reach, apply, start


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
    return policy, run(policy, start(policy), (*donate(policy), *share(Options(), policy)))


@pytest.mark.parametrize("retries", [0, 2])
def test_refused_unshare_ends_its_invalidation(inplace: tuple[Policy, Page], retries: int) -> None:
    policy, shared = inplace
    pinned = apply(policy, apply(policy, shared, Op.HOST_LOAD).page, Op.GUP_PIN).page
    after = run(policy, pinned, unshare(Options(retries=retries), policy))
    assert after == pinned._replace(host=Reach.NONE) and not after.notify
    assert apply(policy, after, Op.HOST_LOAD).page == pinned, "the host's next touch maps it again"


def test_refused_share_ends_its_invalidation(inplace: tuple[Policy, Page]) -> None:
    policy, shared = inplace
    assert run(policy, shared, share(Options(), policy)) == shared


@pytest.mark.parametrize(("name", "kept"), [("hybrid", False), ("pkvm", True)])
def test_refault_maps_the_page_whether_kvm_holds_it_or_not(name: str, kept: bool) -> None:
    policy = POLICIES[name]
    page = start(policy)
    for op in (Op.ALLOCATE, Op.KVM_GET, Op.DONATE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT):
        page = apply(policy, page, op).page
    assert page.kvm == kept
    assert apply(policy, run(policy, page, refault(policy)), Op.GUEST_LOAD).reached
