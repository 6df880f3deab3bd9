"""Each public bug is found by its shortest way, and its fix holds."""

from functools import cache
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from pagewarden.check.bugs import BugFound, bugs, search
from pagewarden.check.explain import tell
from pagewarden.law import Op

LAST = {
    "mremap-flushes-late": (9, Op.HOST_LOAD),
    "writes-through-the-tlb-while-migrating": (16, Op.MIGRATE_COMMIT),
    "xsa-346": (10, Op.DMA_READ),
    "sequence-read-after-the-look-up": (13, None),
    "fault-races-a-hole-punch": (12, None),
    "faults-under-mmu-lock": (9, None),
    "remove-events-are-not-told": (9, Op.PUNCH),
    "a-deferred-fault-is-not-tried-again": (13, None),
    "strace-kills-the-host": (9, Op.KMAP_READ),
    "p2m-entry-stays": (4, Op.PUNCH),
    "gup-beside-migration": (8, Op.MIGRATE_COMMIT),
    "fork-then-vmsplice": (9, Op.ALIAS_LOAD),
    "no-freshness": (15, Op.SWAP_IN_STALE),
    "check-then-zap": (22, Op.KMAP_READ),
    "page-server-crashes": (7, Op.SWAP_IN_TAMPERED),
}
"""The length of the shortest way, and its last operation (None: on no page, or what a page can do no more)."""


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
    assert (bug.verdict.name, bug.verdict.verdict, bug.fixed) == (bug.bug.breaks, "fails", "holds") and bug.right
    told = tell(bug.report, bug.verdict)
    assert len(told) == steps
    if last is not None:
        assert told[-1].move.op is last
    for one, other in pairwise([step for step in told if step.page == 0]):
        assert one.step.page == other.before  # one way, not pieces of several
