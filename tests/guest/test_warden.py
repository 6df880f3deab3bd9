"""The warden against a guest that lies: hypercalls and I/O page-table entries it must refuse, with nothing changed."""

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest_kit import PlainMemory, random_disk, random_program
from pagewarden.guest.hypercalls import Number
from pagewarden.guest.layout import RECENT_HEAD
from pagewarden.guest.program import IOPTE_VALID
from pagewarden.guest.warden import Warden
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused

PAGES = 16
WORD = st.one_of(st.integers(0, 20), st.integers(0, (1 << 64) - 1))


def warden(pages: int = PAGES) -> tuple[Warden, PlainMemory]:
    memory = PlainMemory(pages * PAGE_SIZE)
    return Warden(memory, [], lambda queue: None), memory


@settings(deadline=None)
@given(st.lists(st.tuples(WORD, WORD, WORD, WORD), max_size=30))
def test_any_hypercall_is_answered_and_a_refused_one_changes_nothing(calls: list[tuple[int, int, int, int]]) -> None:
    answering, memory = warden()
    for number, *arguments in calls:
        before = bytes(memory.shared)
        a, b, c = arguments
        if answering.hypercall(number, (a, b, c)):
            assert memory.shared == before
    assert set(answering.calls) <= set(Number)


@pytest.mark.parametrize(
    ("number", "arguments", "code"),
    [
        (0, (0, 0, 0), errno.ENOSYS),
        (99, (0, 0, 0), errno.ENOSYS),
        (Number.SHARE, (0, 0, 0), errno.EINVAL),
        (Number.UNSHARE, (PAGES, 1, 0), errno.ERANGE),
        (Number.SHARE, (1, (1 << 64) - 1, 0), errno.ERANGE),
    ],
)
def test_refusals_have_their_errno(number: int, arguments: tuple[int, int, int], code: int) -> None:
    assert warden()[0].hypercall(number, arguments) == -code


def test_the_log_keeps_the_last_thousand() -> None:
    answering, _ = warden()
    for n in range(1500):
        assert answering.hypercall(Number.LOG, (n, n + 1, 0)) == 0
    assert answering.log == [(n, n + 1) for n in range(500, 1500)]


class IommuGuest:
    """The shared pages of an iommu program, to be filled by hand."""

    def __init__(self) -> None:
        self.program = random_program("iommu", random_disk(1))
        self.at = self.program.layout
        self.memory = PlainMemory(self.at.size)
        self.kicks = 0
        self.warden = Warden(self.memory, [self.program], self._kicked)
        self.memory.share(self.at.shared_pages)

    def _kicked(self, queue: int) -> None:
        self.kicks += 1

    def put(self, gpa: int, value: int) -> None:
        self.memory.populate(gpa, struct.pack("<Q", value))

    def list_as_recent(self, head: int, *entries: int) -> None:
        for n, entry in enumerate(entries):
            self.put(self.at.recent + RECENT_HEAD + 8 * n, entry)
        self.put(self.at.recent, head)


def test_new_entries_are_taken_up_at_the_doorbell() -> None:
    guest = IommuGuest()
    gfn = guest.at.data // PAGE_SIZE
    for page in (0, 1):
        guest.put(guest.at.iopt + 8 * page, (gfn + page) * PAGE_SIZE | IOPTE_VALID)
    guest.list_as_recent(2, 0, 1)
    guest.warden.doorbell(0)
    assert guest.memory.shared[gfn : gfn + 3] == b"\1\1\0" and guest.warden.taken_up == 2 and guest.kicks == 1
    guest.warden.doorbell(0)
    assert guest.warden.taken_up == 2 and guest.kicks == 2, "an entry is taken up once"


@pytest.mark.parametrize(
    ("head", "index", "entry", "why"),
    [
        (1 << 63, 0, 0, "new entries"),
        (1, 1 << 40, 0, "I/O page-table entry .* of"),
        (1, 0, 0, "entry 0x0"),
        (1, 0, PAGE_SIZE | 1, "entry 0x1001"),
        (1, 0, (1 << 63) | IOPTE_VALID, "entry 0x8"),
    ],
)
def test_entries_that_lie_are_refused_before_anything_is_shared(head: int, index: int, entry: int, why: str) -> None:
    guest = IommuGuest()
    guest.put(guest.at.iopt, entry)
    guest.list_as_recent(head, index)
    before = bytes(guest.memory.shared)
    with pytest.raises(Refused, match=why):
        guest.warden.doorbell(0)
    assert guest.memory.shared == before and guest.kicks == 0 and guest.warden.taken_up == 0


def test_the_ring_of_recent_entries_wraps() -> None:
    """More rounds than it has entries, of every length: each page is shared at its own round, no other."""
    guest = IommuGuest()
    gfn, pages = guest.at.data // PAGE_SIZE, guest.at.data_pages
    for page in range(pages):
        guest.put(guest.at.iopt + 8 * page, (gfn + page) * PAGE_SIZE | IOPTE_VALID)
    head = 0
    for round_ in range(4 * guest.at.recent_entries):
        wanted = [(round_ + n) % pages for n in range(1 + round_ % pages)]
        for n, page in enumerate(wanted, head):
            guest.put(guest.at.recent + RECENT_HEAD + 8 * (n % guest.at.recent_entries), page)
        head += len(wanted)
        guest.put(guest.at.recent, head)
        guest.warden.doorbell(0)
        assert {page for page in range(pages) if guest.memory.shared[gfn + page]} == set(wanted)
        guest.memory.unshare(PageRange(gfn, gfn + pages))
    assert guest.warden.taken_up == head
