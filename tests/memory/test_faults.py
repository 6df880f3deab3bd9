"""An exception anywhere between the kernel and the ledger: nothing open that is called private, no byte lost."""

import errno
from collections.abc import Callable
from contextlib import suppress

import pytest

from injector import Calls, Instructions, Struck, judge, struck_calls
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused
from struck_batch import compiled_by_the_door

PAGES = 12
FIRST = [bytes([65 + page]) for page in range(PAGES)]
BACKINGS = ["uffd-window", "uffd-rwp", "memfd-secret", "memfd"]
Act = Callable[[PrivateMemory], object]


def punch(mem: PrivateMemory) -> None:
    mem.punch(PageRange(2, 6))


ACTS: dict[str, Act] = {
    "share": lambda mem: mem.share(PageRange(1, 11)),
    "unshare": lambda mem: mem.unshare(PageRange(1, 11)),
    "convert": lambda mem: mem.convert([PageRange(0, 2), PageRange(5, 6), PageRange(8, 10)], [PageRange(2, 8)]),
    "punch": punch,
    "populate": lambda mem: mem.populate(0, b"+" * (2 * PAGE_SIZE)),
    "a page": lambda mem: mem.share(PageRange(1, 2)),
    "another page": lambda mem: mem.unshare(PageRange(6, 7)),
}


def created(backing: str, shared: bool = False) -> PrivateMemory:
    """Skips where it cannot be had."""
    return PrivateMemory(PAGES * PAGE_SIZE, backing.split()[0], shared=shared)


def ready(backing: str) -> PrivateMemory:
    """Pages 3, 6, 7 and 9 are shared; every page holds its letter, the last two are holes. Compiled: single pages are
    converted in compiled code."""
    mem = created(backing)
    mem.populate(0, b"".join(each * PAGE_SIZE for each in FIRST[:10]))
    for pages in (PageRange(3, 4), PageRange(6, 8), PageRange(9, 10)):
        mem.share(pages)
    if backing.endswith("compiled"):
        mem.convert()
    return mem


def allowed(act: str) -> list[set[bytes]]:
    """What each page may hold afterwards: what it held, or what the act was to put there."""
    contents = [{each} for each in [*FIRST[:10], b"\0", b"\0"]]
    if act == "punch":
        for page in range(2, 6):
            contents[page].add(b"\0")
    if act == "populate":
        for page in range(2):
            contents[page].add(b"+")
    return contents


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("backing", BACKINGS)
def test_an_exception_at_any_system_call(backing: str, act: str, after: bool) -> None:
    fatal, struck = 1, 0
    while True:
        calls = Calls({}, after)
        with struck_calls(calls), ready(backing) as mem:
            calls.made, calls.faults = 0, {fatal: Struck}
            with suppress(Refused):
                try:
                    ACTS[act](mem)
                except Struck:
                    struck += 1
            calls.faults, made = {}, calls.made
            judge(mem, allowed(act), f"{act}, call {fatal}")
        if made < fatal:
            break
        fatal += 1
    assert struck == fatal - 1 or (backing == "memfd-secret" and act == "punch")


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EEXIST], ids=errno.errorcode.get)
@pytest.mark.parametrize("act", ["share", "unshare", "convert", "punch"])
@pytest.mark.parametrize("backing", BACKINGS)
def test_an_errno_at_any_one_or_two_system_calls(backing: str, act: str, code: int) -> None:
    assert "done" in errnos_at_any_one_or_two(backing, act, code) or backing == "memfd-secret"


COMPILED = (errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EEXIST, errno.EFAULT, errno.ENOENT, errno.ESRCH)


@pytest.mark.parametrize("code", COMPILED, ids=errno.errorcode.get)
@pytest.mark.parametrize("act", ["a page", "another page", "convert"])
def test_an_errno_at_any_one_or_two_calls_of_compiled_code(act: str, code: int) -> None:
    """What ioctl_userfaultfd(2) and madvise(2) list, and its undoing."""
    with compiled_by_the_door():
        assert "done" in errnos_at_any_one_or_two("uffd-window compiled", act, code)


def errnos_at_any_one_or_two(backing: str, act: str, code: int) -> set[str]:
    """All or nothing where one call fails; where the way back fails too, the memory says what has become of it."""
    outcomes = set()
    for gap in (0, 1, 2):
        fatal = 1
        while True:
            calls = Calls({})
            with struck_calls(calls), ready(backing) as mem:
                before = bytes(mem._state.shared)
                calls.made = 0
                calls.faults = dict.fromkeys((fatal, fatal + gap), lambda: OSError(code, "on purpose"))
                try:
                    ACTS[act](mem)
                    outcome = "done"
                except Refused as refusal:
                    outcome = "broken" if "can only be closed" in str(refusal) else "refused"
                calls.faults, made = {}, calls.made
                if outcome == "refused":
                    assert mem._state.shared == before, f"{act}, calls {fatal} and {fatal + gap}"
                compiled = mem._state._single
                state = judge(mem, allowed(act), f"{act}, calls {fatal} and {fatal + gap}")
                assert (state == "broken") == (outcome == "broken")
                outcomes.add(outcome)
            if made < fatal:
                break
            fatal += 1
            if gap == 0:
                assert outcome != "broken"
    assert compiled is not None or not backing.endswith("compiled")
    return outcomes


@pytest.mark.parametrize("act", ["share", "unshare", "convert", "punch"])
@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret"])
def test_an_exception_at_any_instruction(backing: str, act: str) -> None:
    with ready(backing) as mem:
        ACTS[act](mem) if (backing, act) != ("memfd-secret", "punch") else None  # all is loaded and warm
    fatal, step = 1, 1
    while True:
        with ready(backing) as mem:
            with suppress(Struck, Refused), Instructions(fatal) as trace:
                ACTS[act](mem)
            if trace.seen < fatal:
                break
            assert judge(mem, allowed(act), f"{act}, instruction {fatal}, {trace.where}") == "usable"
        fatal += step
    assert fatal > 50


@pytest.mark.parametrize("backing", BACKINGS)
def test_a_close_that_is_struck_anywhere_leaves_nothing_that_answers(backing: str) -> None:
    import os

    file = os.memfd_create("ask")
    for after in (False, True):
        fatal = 1
        while True:
            calls = Calls({}, after)
            with struck_calls(calls):
                mem = ready(backing)
                view = mem.window.memory[:8]
                calls.made, calls.faults = 0, {fatal: Struck}
                with suppress(Struck):
                    mem.close()
                made = calls.made
            mem.close()
            with pytest.raises(OSError):
                os.pwrite(file, view, 0)
            with pytest.raises(ValueError, match="closed"):
                mem.share(PageRange(0, 1))
            if made < fatal:
                break
            fatal += 1
        assert fatal > 1
    os.close(file)


@pytest.mark.parametrize("backing", BACKINGS)
def test_the_first_unshare_of_memory_that_starts_shared_may_be_struck_anywhere(backing: str) -> None:
    for after in (False, True):
        fatal = 1
        while True:
            calls = Calls({}, after)
            with struck_calls(calls), created(backing, shared=True) as mem:
                mem.private_write(0, b"".join(each * PAGE_SIZE for each in FIRST[:10]))
                calls.made, calls.faults = 0, {fatal: Struck}
                with suppress(Struck):
                    mem.unshare(PageRange(2, 6))
                calls.faults, made = {}, calls.made
                assert judge(mem, allowed("unshare"), f"call {fatal}") == "usable"
            if made < fatal:
                break
            fatal += 1
