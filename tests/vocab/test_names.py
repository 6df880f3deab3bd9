"""A name that a user gives: what was meant."""

import pytest

from pagewarden.vocab import UserMistake, did_you_mean, one_of

KNOWN = ("in-place", "batch", "gup_pin")


@pytest.mark.parametrize("given", ["in-place", "in_place", "In-Place"])
def test_hyphens_underscores_and_case_make_no_difference(given: str) -> None:
    assert one_of("option", given, KNOWN) == "in-place"


def test_the_known_spelling_is_given_back() -> None:
    assert one_of("operation", "gup-pin", KNOWN) == "gup_pin"
    assert one_of("option", "a_b", ("a-b", "a_b")) == "a_b"


def test_what_is_unknown_gets_the_nearest_and_all() -> None:
    with pytest.raises(UserMistake) as caught:
        one_of("option", "in_plaice", KNOWN)
    assert str(caught.value) == (
        "no option is called 'in_plaice' (did you mean 'in-place'?); there are in-place, batch, gup_pin"
    )
    assert did_you_mean("zzz", KNOWN) == ""


def test_a_guess_stands_alone_where_the_list_is_very_long() -> None:
    many = [f"name-{n}" for n in range(40)] + ["tlbi_ns"]
    with pytest.raises(UserMistake) as caught:
        one_of("setting", "tlbi", many)
    assert str(caught.value) == "no setting is called 'tlbi'; did you mean 'tlbi_ns'?"
    with pytest.raises(UserMistake, match="there are name-0, "):
        one_of("setting", "zzzzz", many)
