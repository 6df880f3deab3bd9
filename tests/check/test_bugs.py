"""Each public bug is found by its shortest way, and its fix holds."""

import re
from functools import cache
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from pagewarden.check.bugs import BugFound, bugs, search
from pagewarden.check.explain import tell
from pagewarden.check.ways import Counterexample
from pagewarden.law import Op
from verbs import Verb

LAST = {
    "mremap-flushes-late": (11, Op.HOST_LOAD),
    "writes-through-the-tlb-while-migrating": (16, Op.MIGRATE_COMMIT),
    "xsa-346": (12, Op.DMA_READ),
    "sequence-read-after-the-look-up": (13, None),
    "fault-races-a-hole-punch": (12, None),
    "faults-under-mmu-lock": (9, None),
    "payload-looked-up-under-the-files-lock": (14, None),
    "remove-events-are-not-told": (10, Op.PUNCH),
    "a-deferred-fault-is-not-tried-again": (13, None),
    "strace-kills-the-host": (11, Op.KMAP_READ),
    "p2m-entry-stays": (5, Op.PUNCH),
    "gup-beside-migration": (8, Op.MIGRATE_COMMIT),
    "fork-then-vmsplice": (11, Op.ALIAS_LOAD),
    "no-freshness": (22, Op.SWAP_IN_STALE),
    "check-then-zap": (30, Op.KMAP_READ),
    "page-server-crashes": (14, Op.SWAP_IN_TAMPERED),
}
"""The steps of the way that is told, and its last operation (None: on no page, or what a page can do no more)."""


@cache
def found() -> dict[str, BugFound]:
    return {each.name: each for each in search()}


def test_the_corpus() -> None:
    assert set(bugs()) == set(LAST) and len(LAST) >= 12
    for bug in bugs().values():
        assert urlsplit(bug.source).netloc and bug.what and bug.changed
        assert bug.fixed != bug.broken and bug.fixed.has(bug.without[0]) if bug.without else bug.change


@pytest.mark.parametrize("name", LAST)
def test_found_and_fixed(name: str) -> None:
    bug = found()[name]
    steps, last = LAST[name]
    assert (bug.verdict, bug.fixed) == ("fails", "holds") and bug.right
    assert isinstance(bug.way, Counterexample)
    assert bug.way.verdict.name == bug.bug.breaks
    told = tell(bug.way.report, bug.way.verdict)
    assert len(told) == bug.way.steps == steps
    if last is not None:
        assert told[-1].move.op is last
    for one, other in pairwise([step for step in told if step.page == 0]):
        assert one.step.page == other.before  # one way, not pieces of several


@pytest.mark.parametrize("name", ["strace-kills-the-host", "fork-then-vmsplice", "check-then-zap"])
def test_its_command_tells_as_many_steps(name: str, verb: Verb) -> None:
    """Also where a mechanism is added and taken away again, and where locks are taken on the way."""
    bug, steps = bugs()[name], LAST[name][0]
    said = verb(*bug.command.split()[1:], code=1).stdout
    assert f"\n{bug.breaks} fails, {steps} steps, by {bug.strangers}:\n" in said
    assert [int(number) for number in re.findall(r"^ {1,2}(\d+)  ", said, re.MULTILINE)] == list(range(1, steps + 1))
