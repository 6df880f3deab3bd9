"""What was taken is given back, on every path: descriptors and mappings are counted."""

import errno
import gc
import os
from collections.abc import Callable

import pytest

from injector import Calls, struck_calls
from pagewarden.kernel import door, uffd
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory, Refused, Unavailable

BACKINGS = ["uffd-window", "uffd-rwp", "memfd-secret", "guest-memfd", "memfd", "isolated"]


def create(backing: str) -> PrivateMemory:
    isolated = backing == "isolated"
    return PrivateMemory(16 * PAGE_SIZE, "auto" if isolated else backing, isolated=isolated)


def made(backing: str) -> PrivateMemory:
    return create(backing)


def taken() -> tuple[int, int]:
    """Open descriptors and mappings of memory files of this process, without what only waits for the collector."""
    gc.collect()
    with open("/proc/self/maps") as lines:
        mappings = sum(1 for line in lines if "memfd" in line or "secretmem" in line or "userfaultfd" in line)
    return len(os.listdir("/proc/self/fd")), mappings


def round_trip(backing: str) -> None:
    with made(backing) as mem:
        if backing != "guest-memfd":
            mem.share(PageRange(1, 3))
            if mem.isolated:
                mem.private_read(0, 8)
            else:
                mem.window.read(PAGE_SIZE, 8)
            mem.unshare(PageRange(2, 3))


@pytest.mark.parametrize(
    ("backing", "rounds"),
    [("uffd-window", 10_000), ("memfd-secret", 500), ("guest-memfd", 200), ("memfd", 1000), ("isolated", 500)],
)
def test_rounds_leak_nothing(backing: str, rounds: int) -> None:
    round_trip(backing)
    before = taken()
    with open("/proc/self/maps") as lines:
        lines_before = sum(1 for _ in lines)
    for _ in range(rounds):
        round_trip(backing)
    assert taken() == before
    with open("/proc/self/maps") as lines:
        assert sum(1 for _ in lines) <= lines_before + 20  # the allocator's own


def test_an_array_that_outlives_the_memory_goes_with_its_mapping() -> None:
    before = taken()
    mem = made("uffd-window")
    array = mem.window.array
    mem.close()
    del array, mem
    assert taken() == before


@pytest.mark.parametrize("backing", BACKINGS)
def test_a_constructor_that_fails_at_any_step_leaves_nothing(backing: str) -> None:
    made(backing).close()
    before, failures, fatal = taken(), 0, 1
    while True:
        with struck_calls(Calls({fatal: lambda: OSError(errno.ENOMEM, "on purpose")})) as calls:
            try:
                create(backing).close()
            except (OSError, Unavailable):
                failures += 1
        assert taken() == before, fatal
        if calls.made < fatal:
            break
        fatal += 1
    assert failures >= 1


@pytest.mark.parametrize("fatal", [1, 2, 3])
def test_a_conversion_that_fails_half_way_is_undone(fatal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs are to be shared; the kernel refuses the n-th; the state before is back, and later it succeeds."""
    with made("uffd-window") as mem:
        mem.populate(0, bytes(range(256)) * 256)
        mem.share(PageRange(3, 4))
        mem.share(PageRange(6, 7))
        bad = (1, 4, 7)[fatal - 1] * PAGE_SIZE
        ioctl: Callable[[int, int, bytearray], int] = door.ioctl_inplace

        def failing(fd: int, request: int, argument: bytearray) -> int:
            if int.from_bytes(argument[:8], "little") == mem.window.address + bad:
                raise OSError(errno.ENOSPC, "no room")
            return ioctl(fd, request, argument)

        monkeypatch.setattr(uffd, "ioctl_inplace", failing)
        with pytest.raises(Refused) as caught:
            mem.share(PageRange(1, 10))
        assert (caught.value.errno, caught.value.offset) == (errno.ENOSPC, bad)
        monkeypatch.undo()
        for page in range(16):
            shared = page in (3, 6)
            assert mem.is_shared(page) == shared
            if shared:
                mem.window.read(page * PAGE_SIZE, 1)
            else:
                with pytest.raises(PrivateAccess):
                    mem.window.read(page * PAGE_SIZE, 1)
        mem.share(PageRange(1, 10))
        assert mem.window.read(PAGE_SIZE, 9 * PAGE_SIZE) == mem.private_read(PAGE_SIZE, 9 * PAGE_SIZE)


def test_a_memory_that_nobody_closed_is_closed_and_said_so() -> None:
    before = taken()
    last = [made("uffd-window")]
    last[0].share(PageRange(0, 1))

    def forget() -> None:
        last.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed uffd-window memory"):
        forget()
    assert taken() == before
