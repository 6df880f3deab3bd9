"""The protocols of a page keeper and of a live migration: with all guards nothing breaks, and each guard is needed."""

import pytest

from pagewarden.check.bugs import PROTOCOLS, protocol_bugs, search
from pagewarden.check.protocol import check_protocol
from pagewarden.vocab import UserMistake
from verbs import Verb, document

BREAKS = {
    ("keeper", "userfaultfd-held"): {"no-false-zeroes": 2},
    ("keeper", "removals-told"): {"no-old-bytes": 2},
    ("keeper", "eagain-retried"): {"progress": 3},
    ("keeper", "ledger-outlives"): {"no-old-bytes": 7},
    ("keeper", "reading-noted"): {"no-old-bytes": 6},
    ("keeper", "page-continued"): {"no-false-zeroes": 2},
    ("keeper", "successor-wakes"): {"progress": 4},
    ("migration", "stands-in-doubt"): {"never-both": 6},
    ("migration", "never-written"): {"never-both": 6},
    ("migration", "taken-written"): {"never-both": 6},
    ("migration", "conversions-wait"): {"nothing-lost": 5},
}
"""Without which guard what breaks, and the steps of the shortest way."""
HAPPENS = {
    "keeper": (
        "EAGAIN",
        "zeroes in place",
        "snapshot's page",
        "another pager",
        "ends the VM",
        "ahead of use",
        "that the file has",
    ),
    "migration": ("scrubs it", "is taken", "not taken", "finds that it said never", "gives up", "guest again"),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_with_all_guards_it_holds_and_everything_happens(name: str) -> None:
    report = check_protocol(PROTOCOLS[name])
    assert not report.ways and report.states > 50
    words = " ".join(what for _, what in report.met)
    assert all(each in words for each in HAPPENS[name])
    assert {guard for protocol, guard in BREAKS if protocol == name} == set(PROTOCOLS[name].guards)


@pytest.mark.parametrize(("name", "guard"), BREAKS)
def test_each_guard_is_needed(name: str, guard: str) -> None:
    report = check_protocol(PROTOCOLS[name], (guard,))
    assert {broken: len(way) for broken, way in report.ways.items()} == BREAKS[name, guard]
    assert set(report.ways) <= set(PROTOCOLS[name].properties)


def test_the_public_bugs_are_found_and_fixed() -> None:
    found = [each for each in search() if each.name in protocol_bugs()]
    assert len(found) == 4 and all(each.right and each.steps for each in found)
    assert {each.bug.breaks for each in found} == set(PROTOCOLS["keeper"].properties)


def test_the_verb_tells_the_way(verb: Verb) -> None:
    assert document(verb, "check", "--protocol", "migration")["good"]
    said = verb("check", "--protocol", "keeper", "--without", "userfaultfd-held", code=1).stdout
    assert "no-false-zeroes fails" in said and "    1  crash: the pager dies\n    2  VMM: a vCPU touches" in said
    assert "there are" in verb("check", "--protocol", "keeper", "--without", "userfault", code=2).stderr
    assert "there are" in verb("check", "--protocol", "nfs", code=2).stderr
    assert "no effect" in verb("check", "--protocol", "keeper", "--policy", "memfd", code=2).stderr
    with pytest.raises(UserMistake):
        check_protocol(PROTOCOLS["keeper"], ("nothing",))
