"""The quick way of a page takes no lock: it is shut while somebody needs that nothing changes, asks, or lends."""

import errno
import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, conversions

FREE = 9
"""A page that nobody minds."""


@pytest.fixture
def mem() -> Iterator[PrivateMemory]:
    with PrivateMemory(16 * PAGE_SIZE, "uffd-window") as made:
        made.populate(0, bytes(made.size))
        made.share(PageRange(0, 2))
        made.convert()
        yield made


def quick(mem: PrivateMemory) -> tuple[int, int]:
    """Does a page go there and back the quick way?"""
    single = mem._state._single
    assert single is not None
    return single.share(mem._state.at, FREE, FREE + 1), single.unshare(mem._state.at, FREE, FREE + 1)


INSIDE: dict[str, tuple[str, Callable[[PrivateMemory], object]]] = {
    "populate": ("private_write", lambda mem: mem.populate(5 * PAGE_SIZE, b"x")),
    "share": ("_state._share", lambda mem: mem.share(PageRange(1, 6))),
    "unshare": ("_state._unshare", lambda mem: mem.unshare(PageRange(0, 3))),
    "convert": ("_backing.compiled", lambda mem: mem.convert(np.array([(4, 6)], np.int64))),
    "punch": ("_backing.punch", lambda mem: mem.punch(PageRange(0, 1))),
    "reopen": ("_state.reopen", lambda mem: mem._reopen(0)),
}


@pytest.mark.parametrize("act", INSIDE)
def test_it_is_shut_while_something_else_is_done(mem: PrivateMemory, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, do = INSIDE[act]
    *owners, name = path.split(".")
    owner: object = mem
    for each in owners:
        owner = getattr(owner, each)
    seen, real = [], getattr(owner, name)

    def watched(*arguments: object) -> object:
        seen.append(quick(mem))
        return real(*arguments)

    assert quick(mem) == (1, 1)
    monkeypatch.setattr(owner, name, watched, raising=False)
    do(mem)
    assert seen[0] == (0, 0) and quick(mem) == (1, 1)


def test_it_is_shut_while_a_page_is_held_and_opens_with_the_next_change(mem: PrivateMemory) -> None:
    hold = mem.hold(PageRange(0, 1))
    assert quick(mem) == (0, 0)
    hold.release()
    assert quick(mem) == (0, 0)  # a hold ends without the lock
    mem.share(PageRange(0, 1))
    assert quick(mem) == (1, 1)


def test_a_page_that_may_be_lent_is_not_taken_back_the_quick_way(mem: PrivateMemory) -> None:
    loan = mem.window.lend((0, 8))
    assert loan is not None and loan.good and quick(mem) == (1, 0)
    mem.unshare(PageRange(FREE, FREE + 1))
    assert loan.good
    mem.unshare(PageRange(0, 1))
    assert not loan.good and not mem.is_shared(0)
    mem.share(PageRange(2, 4))
    mem.unshare(PageRange(2, 4))
    assert quick(mem) == (1, 1)
    loan.close()


def test_it_is_shut_for_good_where_the_memory_is_over(mem: PrivateMemory) -> None:
    at, single = mem._state.at, mem._state._single
    assert single is not None
    child = os.fork()
    if not child:
        os._exit(single.share(at, FREE, FREE + 1))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mem.close()
    assert single.share(at, FREE, FREE + 1) == 0


def test_a_handler_in_the_midst_of_a_change_goes_the_other_way(
    mem: PrivateMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, real = [], mem._state._share

    def handler(*_: object) -> None:
        seen.append(quick(mem))
        mem.share(PageRange(4, 5))

    def interrupted(offset: int, length: int) -> None:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGUSR1)
        real(offset, length)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        monkeypatch.setattr(mem._state, "_share", interrupted)
        mem.share(PageRange(1, 6))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [(0, 0)] and mem.is_shared(4) and mem.is_shared(5) and quick(mem) == (1, 1)


def test_compiled_code_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some pages; where it cannot be loaded, everything goes on as before."""
    monkeypatch.setattr(conversions, "WARM", 3)
    for refusal in (None, OSError(errno.EMFILE, "too many open files"), MemoryError()):
        with PrivateMemory(16 * PAGE_SIZE, "uffd-window") as mem:
            if refusal is not None:
                error = refusal

                def refusing(*_: object, error: BaseException = error) -> object:
                    raise error

                monkeypatch.setattr(mem._backing, "single", refusing, raising=False)
            mem.populate(0, bytes(mem.size))
            for page in range(5):
                mem.share(PageRange(page, page + 1))
            single = mem._state._single
            assert (single is None) == (refusal is not None)
            assert single is None or list(single.done()) == [(0, 0), (2, 2)]
            assert list(mem.shared_runs()) == [PageRange(0, 5)]
