"""Counters are exact, per thread, and a zero is believed only when it was earned."""

import ctypes
import os
import threading

import pytest

from deep import alone
from leftovers import descriptors
from pagewarden.abi import perf
from pagewarden.kernel import counters, door
from pagewarden.kernel.counters import Counters
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Unavailable


@pytest.fixture(autouse=True)
def _allowed() -> None:
    with Counters("syscalls"):
        pass


def test_layout() -> None:
    offsets = {"config": 8, "read_format": 32, "flags": 40, "wakeup_events": 48, "sig_data": 120}
    assert {name: getattr(perf.perf_event_attr, name).offset for name in offsets} == offsets
    assert ctypes.sizeof(perf.perf_event_attr) == 128


@pytest.mark.parametrize("times", [0, 1, 7])
@alone
def test_syscalls_are_counted_by_number(times: int) -> None:
    with Counters("syscalls:getppid", "syscalls:getpid", "syscalls", "syscalls:ioctl") as counted:
        for _ in range(times):
            os.getppid()
    assert counted.as_dict() == {
        "syscalls:getppid": times,
        "syscalls:getpid": 0,
        "syscalls": times,
        "syscalls:ioctl": 0,
    }


def test_page_faults_are_counted() -> None:
    pages = 2000
    file = door.memfd("test", pages * PAGE_SIZE)
    fd = file.fd
    with Counters("page_faults") as counted:
        address = door.map_anywhere(pages * PAGE_SIZE, fd, 0)
        ctypes.memset(address, 1, pages * PAGE_SIZE)
        door.unmap(address, pages * PAGE_SIZE)
    file.close()
    assert pages <= counted["page_faults"] < pages + 200  # the interpreter's own faults are this thread's too


@alone
def test_flushes_are_counted() -> None:
    file = door.memfd("test", PAGE_SIZE)
    fd = file.fd
    with Counters("tlb_flush", "syscalls:munmap") as counted:
        address = door.map_anywhere(PAGE_SIZE, fd, 0)
        ctypes.memset(address, 1, 1)
        assert counted["tlb_flush"] == 0  # readable while it counts
        door.unmap(address, PAGE_SIZE)
    file.close()
    assert counted.as_dict() == {"tlb_flush": 1, "syscalls:munmap": 1}


def test_only_this_thread_is_counted() -> None:
    with Counters("syscalls:getppid") as counted:
        thread = threading.Thread(target=os.getppid)
        thread.start()
        thread.join()
    assert counted["syscalls:getppid"] == 0


def under_one_table(mem: PrivateMemory, count: int) -> int:
    """The first page of a run whose entries lie in one page table of the window (of two places, one must do)."""
    last_entry = mem.window.address // PAGE_SIZE % 512 + count - 1
    return 0 if last_entry < 512 else count


@pytest.mark.parametrize("pages", [1, 16])
@alone
def test_a_conversion_is_one_call_and_one_flush_however_many_pages(pages: int) -> None:
    with PrivateMemory(32 * PAGE_SIZE, "uffd-window") as mem:
        mem.populate(0, bytes(mem.size))
        first = under_one_table(mem, 16)
        with Counters("syscalls", "tlb_flush") as shared:
            mem.share(PageRange(first, first + pages))
        with Counters("syscalls", "tlb_flush") as unshared:
            mem.unshare(PageRange(first, first + pages))
    assert shared.as_dict() == {"syscalls": 1, "tlb_flush": 0}
    assert unshared.as_dict() == {"syscalls": 1, "tlb_flush": 1}


@pytest.mark.parametrize("compiled", [False, True])
@alone
def test_the_ledger_agrees_with_the_kernel_on_flushes(compiled: bool) -> None:
    with PrivateMemory(32 * PAGE_SIZE, "uffd-window") as mem:
        mem.populate(0, bytes(mem.size))
        mem.convert(to_private=[PageRange(0, 1)])  # loads the compiler
        first = under_one_table(mem, 16)
        mem.share(PageRange(first, first + 16))
        before = mem.statistics()["tlbi"]
        with_holes = PageRange(first + 3, first + 5), PageRange(first, first + 16)
        with Counters("tlb_flush") as happened:
            if compiled:
                mem.convert(to_private=with_holes)
            else:
                for pages in with_holes:
                    mem.unshare(pages)
        asked = mem.statistics()["tlbi"] - before
    assert asked == happened["tlb_flush"] == 2


def test_a_zero_is_not_believed_of_a_counter_that_never_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_proven", {})
    with Counters("kvm:kvm_pio") as counted:
        pass
    with pytest.raises(Unavailable, match="never seen counting"):
        _ = counted["kvm:kvm_pio"]
    with Counters("syscalls:getppid", stimuli={"syscalls:getppid": lambda: None}) as counted:
        os.getppid()
    assert counted["syscalls:getppid"] == 1  # a count speaks for itself
    with Counters("syscalls:getppid", stimuli={}) as counted:
        pass
    with pytest.raises(Unavailable, match="never seen counting"):
        _ = counted["syscalls:getppid"]


def test_a_missing_tracepoint_is_unavailable_with_the_reason() -> None:
    with pytest.raises(Unavailable, match="no_such"), Counters("tlb:no_such"):
        pass
    with pytest.raises(KeyError), Counters("syscalls:no_such"):
        pass
    with pytest.raises(ValueError, match="no counter"):
        Counters()


def test_no_descriptor_is_left() -> None:
    before = descriptors(sweep=True)
    with Counters("syscalls", "tlb_flush"):
        pass
    with pytest.raises(Unavailable), Counters("syscalls", "tlb:no_such"):
        pass
    assert descriptors() == before
