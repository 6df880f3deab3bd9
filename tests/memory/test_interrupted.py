"""An exception wherever one can arise in what a memory and its window do: nothing open that is called private, no byte
lost, no lock, hold or descriptor left behind, and the memory goes on in this thread and another."""

import contextlib
import errno
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

import pagewarden
from injector import Allocations, Instructions, Signals, Somewhere, Struck, elsewhere, judge
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, Unavailable
from spawn_faults import Counted, descriptors, every_call

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
"""What an exception has cut off is closed when it is collected, and says so."""
PAGES = 12
LETTERS = [bytes([65 + page]) for page in range(10)]
ROOMS = os.path.dirname(pagewarden.__file__), contextlib.__file__
AT = 6 * PAGE_SIZE
"""The start of two shared pages."""
Act = Callable[[PrivateMemory], object]


class Deaf:
    def invalidate_begin(self, pages: PageRange) -> None: ...
    def invalidate_end(self, pages: PageRange) -> None: ...


def places(*each: tuple[int, int]) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    return np.array(each, np.int64).T.copy()


def lent(mem: PrivateMemory) -> None:
    """Lend a page and take it back by a conversion; what is forgotten holds nothing."""
    loan = mem.window.lend((AT, 100))
    mem.unshare(PageRange(6, 7))
    assert loan is not None and not loan.good


def a_page(mem: PrivateMemory) -> None:
    mem.share(PageRange(1, 2))
    mem.unshare(PageRange(6, 7))


def told(mem: PrivateMemory) -> None:
    mem.subscribe(listener := Deaf())
    mem.convert([PageRange(0, 2)], [PageRange(6, 7)])
    mem.unsubscribe(listener)


DISK = os.memfd_create("disk")
os.truncate(DISK, PAGE_SIZE)
NUMBERS = np.zeros(108, np.uint8)
LETTER_G = np.full(8, 71, np.uint8)
RUN = np.array([[1, 0, 0, 1]], np.int64)
CONVERSIONS: dict[str, Act] = {
    "share": lambda mem: mem.share(PageRange(1, 11)),
    "unshare": lambda mem: mem.unshare(PageRange(1, 11)),
    "a page": a_page,
    "convert": lambda mem: mem.convert([PageRange(0, 2), PageRange(5, 6), PageRange(8, 10)], [PageRange(2, 8)]),
    "punch": lambda mem: mem.punch(PageRange(2, 6)),
    "populate": lambda mem: mem.populate(0, LETTERS[0] * PAGE_SIZE),
    "told": told,
    "lent": lent,
    "hold": lambda mem: mem.hold(PageRange(6, 7)).release(),
}
ACCESS: dict[str, Act] = {
    "read": lambda mem: mem.window.read(AT, 100),
    "read private": lambda mem: mem.window.read(2 * PAGE_SIZE, 100),
    "read_into": lambda mem: mem.window.read_into(AT, bytearray(2 * PAGE_SIZE)),
    "write": lambda mem: mem.window.write(AT, b"G" * PAGE_SIZE),
    "gather": lambda mem: mem.window.gather(places((3 * PAGE_SIZE, 8), (AT, 100)), 2, NUMBERS),
    "scatter": lambda mem: mem.window.scatter(places((AT, 8)), 1, LETTER_G),
    "add16": lambda mem: mem.window.add16(AT + 2, 0),
    "pread_from": lambda mem: mem.window.pread_from(DISK, PAGE_SIZE, [(AT, PAGE_SIZE)]),
    "pwrite_to": lambda mem: mem.window.pwrite_to(DISK, 0, [(AT, PAGE_SIZE)]),
    "transfer": lambda mem: mem.window.transfer(DISK, RUN, places((AT, 8))),
    "together": lambda mem: mem.window.together(DISK, RUN, places((AT, 8)), np.zeros(1, np.uint8)),
}
ACTS = CONVERSIONS | ACCESS
BACKINGS = ["uffd-window", "uffd-window compiled", "uffd-window bare", "memfd-secret", "memfd"]
"""Compiled: a page alone is converted in compiled code. Bare: it started shared, and a part has no guard yet."""


def made(backing: str, shared: bool = False) -> PrivateMemory:
    return PrivateMemory(PAGES * PAGE_SIZE, backing, shared=shared)


def ready(backing: str) -> PrivateMemory:
    """Pages 3, 6, 7 and 9 are shared; every page holds its letter, the last two are holes."""
    name, _, variant = backing.partition(" ")
    mem = made(name, shared=variant == "bare")
    mem.private_write(0, b"".join(each * PAGE_SIZE for each in LETTERS))
    if variant == "bare":
        return mem
    for pages in (PageRange(3, 4), PageRange(6, 8), PageRange(9, 10)):
        mem.share(pages)
    if variant == "compiled":
        mem.convert()
    return mem


def contents(act: str) -> list[set[bytes]]:
    found = [{each} for each in (*LETTERS, b"\0", b"\0")]
    if act == "punch":
        for page in range(2, 6):
            found[page].add(b"\0")
    return found


def everywhere(where: type[Somewhere], act: Callable[[Somewhere], None]) -> int:
    """Do the act again and again, struck at each of the places once; at how many. Nothing is left of it afterwards, but
    for what CPython itself does not give back when it has no memory."""
    for _ in range(2):  # all is loaded and warm
        act(where(1 << 30, ROOMS))
    gc.collect()  # what tests before dropped is not closed in the middle
    before, fatal, quiet = descriptors(), 0, 0
    while quiet < (8 if where is Allocations else 1):
        fatal += 1
        struck = where(fatal, ROOMS)
        act(struck)
        quiet = 0 if struck.seen >= fatal else quiet + 1
        if where is not Allocations and descriptors() != before:
            gc.collect()
            assert descriptors() == before, f"place {fatal}, {struck.where}: a descriptor is left"
    return fatal


def strike(struck: Somewhere, act: Callable[[], object]) -> None:
    with suppress(Struck, Exception), struck:  # Exception: what C code makes of a lack of memory
        act()


def strike_everywhere(where: type[Somewhere], backing: str, act: str) -> int:
    if backing == "memfd-secret" and act == "punch":
        pytest.skip("it cannot be punched")
    if backing == "uffd-window bare" and act == "populate":
        pytest.skip("its pages are shared")

    def do(struck: Somewhere) -> None:
        with ready(backing) as mem:
            strike(struck, lambda: ACTS[act](mem))
            assert judge(mem, contents(act), f"{act}, place {struck.fatal}, {struck.where}") == "usable"

    return everywhere(where, do)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("backing", BACKINGS)
def test_where_a_signal_handler_may_run(backing: str, act: str) -> None:
    assert strike_everywhere(Signals, backing, act) > 3


@pytest.mark.parametrize("act", CONVERSIONS)
@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret"])
def test_where_memory_is_needed(backing: str, act: str) -> None:
    assert strike_everywhere(Allocations, backing, act) > 3


@pytest.mark.parametrize("act", ["told", "a page"])
@pytest.mark.parametrize("backing", ["uffd-window", "uffd-window compiled"])
def test_at_any_instruction(backing: str, act: str) -> None:
    assert strike_everywhere(Instructions, backing, act) > 20


@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret", "guest-memfd", "isolated"])
def test_a_constructor_leaves_nothing(backing: str) -> None:
    def construct(struck: Somewhere) -> None:
        kept: list[PrivateMemory] = []
        isolated = backing == "isolated"
        strike(
            struck, lambda: kept.append(PrivateMemory(PAGE_SIZE, "auto" if isolated else backing, isolated=isolated))
        )
        for mem in kept:
            mem.close()

    made("uffd-window" if backing == "isolated" else backing).close()
    assert everywhere(Signals, construct) > 20


@pytest.mark.parametrize("where", [Signals, Instructions])
@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret", "guest-memfd"])
def test_a_close_leaves_nothing_and_can_be_repeated(backing: str, where: type[Somewhere]) -> None:
    file = os.memfd_create("ask")

    def close(struck: Somewhere) -> None:
        mem = made(backing)
        if backing != "guest-memfd":
            mem.share(PageRange(0, 1))
            mem.window.lend((0, 8))
        private = mem.window.memory[PAGE_SIZE : PAGE_SIZE + 8]
        strike(struck, mem.close)
        with pytest.raises(OSError, match="Bad address"):
            os.pwrite(file, private, 0)
        elsewhere(mem.close)
        with pytest.raises(OSError, match="Bad address"):
            os.pwrite(file, private, 0)

    assert everywhere(where, close) > 10
    os.close(file)


CODES = errno.ENOMEM, errno.EFAULT, errno.EAGAIN, errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EPERM
"""What the manual pages of read(2), write(2), open(2), ftruncate(2), mmap(2) and ioctl(2) list, as far as a call of
ours can meet it."""
MOVES = ("pread", "preadv", "pwrite", "pwritev")


@contextmanager
def counting(counted: Counted) -> Iterator[None]:
    with every_call(counted), pytest.MonkeyPatch.context() as patch:
        for name in MOVES:
            patch.setattr(os, name, counted.wrapped(name, getattr(os, name)))
        yield


def at(fatal: int, code: int) -> Counted:
    return Counted(lambda made, name: OSError(code, "on purpose") if made == fatal else None)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret", "memfd", "guest-memfd"])
def test_errnos_when_it_is_made_and_closed(backing: str, code: int) -> None:
    def made() -> PrivateMemory:
        return PrivateMemory(2 * PAGE_SIZE, backing)

    made().close()
    before, fatal, going = descriptors(), 0, True
    while going:
        fatal += 1
        counted = at(fatal, code)
        kept: list[PrivateMemory] = []
        with suppress(Refused, Unavailable, OSError), counting(counted):
            kept.append(made())
            kept[0].close()
        for mem in kept:
            mem.close()
        going = counted.made >= fatal
        gc.collect() if descriptors() != before else None
        assert descriptors() == before, f"call {fatal}:{counted.struck}"
    assert fatal > 3


@pytest.mark.parametrize("code", CODES[:2], ids=errno.errorcode.get)
@pytest.mark.parametrize("act", ACCESS)
@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret"])
def test_errnos_in_the_window(backing: str, act: str, code: int) -> None:
    with ready(backing) as mem, suppress(Refused):
        ACCESS[act](mem)  # all is loaded and warm
    before, fatal, going = descriptors(), 0, True
    while going:
        fatal += 1
        counted = at(fatal, code)
        with ready(backing) as mem:
            with suppress(Refused, OSError), counting(counted):
                ACCESS[act](mem)
            assert judge(mem, contents(act), f"{act}, call {fatal}:{counted.struck}") == "usable"
            mem.unshare(PageRange(0, len(LETTERS)))  # no hold is left
        going = counted.made >= fatal
        gc.collect() if descriptors() != before else None
        assert descriptors() == before, f"call {fatal}:{counted.struck}"
