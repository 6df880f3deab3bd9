"""What compiled code does at the border of a guest, in its readable form."""

import pytest

from pagewarden.kernel import guarded


@pytest.mark.parametrize(("refused", "left"), [(0, 0b1101), (1, 0b1100), (2, 0b1000), (3, 0)])
def test_a_page_that_closes_in_the_middle_of_an_addition_leaves_the_rest_of_it(
    monkeypatch: pytest.MonkeyPatch, refused: int, left: int
) -> None:
    calls = []

    def futex(*arguments: int) -> int:
        calls.append(arguments)
        return -1 if len(calls) > refused else 0

    monkeypatch.setattr(guarded, "_syscall", futex)
    assert guarded._add16(0, 0, 6, 0b1101) == left
