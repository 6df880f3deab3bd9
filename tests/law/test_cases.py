"""The cases of an operation say exactly what its table says."""

import pytest

from pagewarden.law import Op, Page, policy_named, tabulate
from pagewarden.law.cases import cases, word


@pytest.mark.parametrize("name", ["pkvm", "guest-memfd-inplace"])
def test_every_state_is_in_one_case_and_the_case_is_right(name: str) -> None:
    table = tabulate(policy_named(name))
    words = [{field: word(value) for field, value in zip(Page._fields, page, strict=True)} for page in table.pages]
    for op in Op:
        found = cases(table, op)
        assert sum(case.states for case in found) == len(table.pages)
        for state, values in enumerate(words):
            fitting = [case for case in found if all(values[f] in allowed for f, allowed in case.when.items())]
            assert len(fitting) == 1
            case, step = fitting[0], table.step(state, op)
            assert words[table.index[step.page]] == {**values, **case.changes}
            assert (step.outcome, step.events, step.reached) == (case.outcome, case.events, case.reached)
