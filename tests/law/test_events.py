"""What every operation costs, in every state under every policy, against a counter that looks at the page only."""

from collections import Counter

import pytest

from pagewarden.law import POLICIES, Op, Policy, tabulate
from slow_counter import owed

LOOSE = [POLICIES["hybrid"].without(name) for name in ("tlb-flushed", "notifies", "scrubs", "injects", "gup-blocked")]


@pytest.mark.parametrize("policy", [*POLICIES.values(), *LOOSE], ids=lambda policy: policy.name)
def test_events_are_what_the_page_shows(policy: Policy) -> None:
    table = tabulate(policy)
    wrong: Counter[tuple[str, str]] = Counter()
    for state, page in enumerate(table.pages):
        for op in Op:
            step = table.step(state, op)
            expected = owed(policy, page, op, step.outcome, step.page)
            if Counter(step.events) != expected:
                wrong[
                    op.key, f"{page} {step.outcome.name}: {sorted(step.events)}, not {sorted(expected.elements())}"
                ] += 1
    examples = dict(reversed(wrong))
    assert not wrong, f"{len(wrong)} cells, of {dict(Counter(op for op, _ in wrong))}; {examples}"
