"""Page ranges, by what they mean."""

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.vocab import GuestStopped, PageRange, Unavailable

some = st.integers(0, 1 << 40)


@given(some, st.integers(1, 1 << 20), st.sampled_from([512, 4096, 1 << 21]))
def test_what_covers_bytes_has_the_first_and_the_last_of_them_in_its_outer_pages(at: int, size: int, page: int) -> None:
    found = PageRange.covering(at, size, page)
    assert found.start * page <= at < (found.start + 1) * page
    assert (found.stop - 1) * page <= at + size - 1 < found.stop * page


@given(st.sets(st.integers(0, 60)))
def test_runs_are_the_pages_in_as_few_ranges_as_can_be(pages: set[int]) -> None:
    found = PageRange.runs(sorted(pages))
    assert [page for run in found for page in range(run.start, run.stop)] == sorted(pages)
    assert all(one.stop < other.start for one, other in pairwise(found))


def test_what_stopped_a_guest_is_told_with_what_is_known() -> None:
    assert str(GuestStopped("a halt", 0x10)) == "the guest stopped: a halt at rip 0x10"
    told = str(GuestStopped("a load", 0x10, 0x2000, "look there"))
    assert told == "the guest stopped: a load at rip 0x10, gpa 0x2000; look there"


def test_what_is_missing_keeps_its_remedy_wherever_it_is_sent() -> None:
    lacking = pickle.loads(pickle.dumps(Unavailable("no kvm", "load it")))
    assert (lacking.what, lacking.advice, str(lacking)) == ("no kvm", "load it", "no kvm; load it")


def test_a_range_outside_is_refused() -> None:
    assert PageRange(0, 4).checked(4) == PageRange(0, 4)
    for wrong in (PageRange(0, 5), PageRange(3, 2), PageRange(-1, 2)):
        with pytest.raises(ValueError, match="do not lie in a memory of 4 pages"):
            wrong.checked(4)
