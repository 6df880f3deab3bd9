"""The statements of `pagewarden/law/statements.toml`: what each asks of the law, entered by the modules beside."""

import errno
from collections.abc import Callable

from pagewarden.law import Op, Outcome, Owner, Page, Policy, apply, policy_named, start

Check = Callable[[], None]
CHECKS: dict[int, Check] = {}


def states(*numbers: int) -> Callable[[Check], Check]:
    """Enter a function as what these statements ask."""

    def enter(check: Check) -> Check:
        for number in numbers:
            assert number not in CHECKS, number
            CHECKS[number] = check
        return check

    return enter


def answers(number: int, found: object, expected: object) -> None:
    """Enter a comparison."""

    def check() -> None:
        assert found == expected

    states(number)(check)


def after(policy: Policy | str, *ops: Op, page: Page | None = None) -> Page:
    """The page after operations that are all done."""
    policy = policy_named(policy) if isinstance(policy, str) else policy
    page = page or start(policy)
    for op in ops:
        step = apply(policy, page, op)
        assert step.outcome is Outcome.DONE, f"{policy.name}: {op.key}: {step.outcome.name} on {page}"
        page = step.page
    return page


LET_GO = (Op.NOTIFY_BEGIN, Op.GUEST_ZAP, Op.GUEST_TLBI)
AGAIN = (Op.NOTIFY_END, Op.KVM_GET, Op.GUEST_MAP)
DONATED = (Op.ALLOCATE, Op.KVM_GET, Op.DONATE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT, Op.GUEST_MAP)
CONVERTED_BACK = (Op.UNSHARE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_CHECK, *LET_GO, Op.UNSHARE_COMMIT, *AGAIN)


def private(policy: Policy | str) -> Page:
    """A page that the guest has to itself, and maps."""
    policy = policy_named(policy) if isinstance(policy, str) else policy
    if policy.starts is Owner.HOST:
        return after(policy, *(op for op in DONATED if op is not Op.KVM_GET or not policy.has("emulated")))
    made = (Op.UNSHARE_BEGIN, Op.UNSHARE_COMMIT) if policy.has("keeps-both") else ()
    return after(policy, Op.ALLOCATE, *made, Op.KVM_GET, Op.GUEST_MAP)


def refuses(policy: Policy | str, page: Page, op: Op, outcome: Outcome) -> None:
    """An operation is refused with that, and nothing changes."""
    policy = policy_named(policy) if isinstance(policy, str) else policy
    step = apply(policy, page, op)
    assert (step.outcome, step.page) == (outcome, page), f"{policy.name}: {op.key}"


def code(outcome: Outcome) -> int:
    """The errno of an outcome, 0 where it is done."""
    return 0 if outcome is Outcome.DONE else getattr(errno, outcome.name)
