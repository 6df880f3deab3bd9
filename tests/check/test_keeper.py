"""The protocol of a page keeper: with all its guards nothing breaks, and each of them is needed."""

import pytest

from pagewarden.check.bugs import keeper_bugs, search
from pagewarden.check.keeper import GUARDS, KEEPER_PROPERTIES, check_keeper
from pagewarden.vocab import UserMistake
from verbs import Verb, document

BREAKS = {
    "userfaultfd-held": {"no-false-zeroes": 2},
    "removals-told": {"no-old-bytes": 2},
    "eagain-retried": {"progress": 3},
    "ledger-outlives": {"no-old-bytes": 7},
    "reading-noted": {"no-old-bytes": 6},
    "successor-wakes": {"progress": 4},
}
"""Without which guard what breaks, and the steps of the shortest way."""


def test_with_all_guards_it_holds_and_everything_happens() -> None:
    report = check_keeper()
    assert not report.ways and report.states > 400
    words = " ".join(what for _, what in report.met)
    assert {actor for actor, _ in report.met} == {"VMM", "kernel", "pager", "keeper", "crash"}
    for happens in ("EAGAIN", "zeroes in place", "snapshot's page in place", "another pager", "ends the VM", "ahead"):
        assert happens in words


@pytest.mark.parametrize("guard", GUARDS)
def test_each_guard_is_needed(guard: str) -> None:
    report = check_keeper((guard,))
    assert {name: len(way) for name, way in report.ways.items()} == BREAKS[guard]


def test_the_public_bugs_are_found_and_fixed() -> None:
    found = [each for each in search() if each.name in keeper_bugs()]
    assert len(found) == 3 and all(each.right and each.steps for each in found)
    assert {each.bug.breaks for each in found} == set(KEEPER_PROPERTIES)


def test_the_verb_tells_the_way(verb: Verb) -> None:
    assert document(verb, "check", "--keeper")["good"]
    said = verb("check", "--keeper", "--without", "userfaultfd-held", code=1).stdout
    assert "no-false-zeroes fails" in said and "    1  crash: the pager dies\n    2  VMM: a vCPU touches" in said
    assert "there are" in verb("check", "--keeper", "--without", "userfault", code=2).stderr
    assert "no effect" in verb("check", "--keeper", "--policy", "memfd", code=2).stderr
    with pytest.raises(UserMistake):
        check_keeper(("nothing",))
