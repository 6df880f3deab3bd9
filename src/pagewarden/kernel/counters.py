"""Exact counts of what this thread makes the kernel do: perf events on tracepoints.

    with Counters("syscalls:pread64", "tlb_flush") as counted:
        ...
    counted["tlb_flush"]

A tracepoint that never fires also counts zero, so a zero is believed only of a counter that was seen counting.
"""

import ctypes
import errno
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from struct import unpack
from typing import Self

from pagewarden.abi import perf
from pagewarden.kernel.door import bytes_address, ioctl, syscall
from pagewarden.kernel.machine import number_of
from pagewarden.kernel.region import Region
from pagewarden.vocab import PAGE_SIZE, Unavailable

TRACEFS = "/sys/kernel/tracing"

SYSCALL = "syscalls:"
NAMED = {
    "syscalls": ("raw_syscalls/sys_enter", ""),
    "page_faults": ("exceptions/page_fault_user", ""),
    "tlb_flush": ("tlb/tlb_flush", "reason == 2 || reason == 3"),
    "kvm_exits": ("kvm/kvm_userspace_exit", ""),
}
"""Counter: tracepoint and filter. syscalls: entries into any. tlb_flush: flushes that this thread asked for, on its own
CPU (TLB_LOCAL_SHOOTDOWN, TLB_LOCAL_MM_SHOOTDOWN of include/linux/mm_types.h); not those of a task switch, nor the
copies sent to other CPUs. page_faults: of any kind, the interpreter's own included."""

COUNTS_OUR_IOCTL = ("syscalls", "syscalls:ioctl")
"""The ioctl that stops the counters is itself an entry into a system call."""


def _touch_a_page() -> None:
    region = Region(PAGE_SIZE)
    region.memory[0] = 1
    region.close()


STIMULI: dict[str, Callable[[], object]] = {
    "syscalls": lambda: syscall("getppid"),
    SYSCALL: lambda: syscall("getppid"),
    "page_faults": _touch_a_page,
    "tlb_flush": _touch_a_page,
}
"""What makes a counter count at least once; a system call's counter is proven by another system call's."""


class Counters:
    """Counters of the calling thread, running between enter and exit; afterwards and meanwhile, read by name.

    Names: `syscalls:NAME` (entries into that system call; `syscalls:NAME|NAME`, into one of them), syscalls (into any),
    page_faults, tlb_flush, kvm_exits, or any tracepoint as `group:event`. stimuli: for tracepoints that STIMULI does
    not know, what makes them count. Raises Unavailable with the reason, KeyError for an unknown system call.

    Closing the last counter of a tracepoint waits until no CPU is inside it, some 15 ms (perf_trace_event_unreg of
    kernel/trace/trace_event_perf.c): whoever opens many one after the other keeps one of each open meanwhile.
    """

    source = "kernel"

    def __init__(self, *names: str, stimuli: Mapping[str, Callable[[], object]] | None = None) -> None:
        if not names:
            raise ValueError("no counter is named")
        self.names = names
        self._stimuli = stimuli or {}
        self._fds: list[int] = []
        self._base: list[int] = []
        self._final: list[int] | None = None

    def __enter__(self) -> Self:
        for name in self.names:
            self._prove(name)
        self._final = None
        with ExitStack() as undo:
            undo.callback(self._close)
            for name in self.names:
                self._fds.append(_open(name, self._fds[0] if self._fds else -1))
            ioctl(self._fds[0], perf.PERF_EVENT_IOC_ENABLE, perf.PERF_IOC_FLAG_GROUP)
            undo.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            ioctl(self._fds[0], perf.PERF_EVENT_IOC_DISABLE, perf.PERF_IOC_FLAG_GROUP)
            self._final = [
                count - (name in COUNTS_OUR_IOCTL) for name, count in zip(self.names, self._read(), strict=True)
            ]
        finally:
            self._close()

    def __getitem__(self, name: str) -> int:
        """The count; Unavailable for a zero of a counter that was never seen counting."""
        return self.at_once(name)[name]

    def as_dict(self) -> dict[str, int]:
        """All counts by name; Unavailable as for one."""
        return self.at_once(*self.names)

    def at_once(self, *names: str) -> dict[str, int]:
        """Counts of one moment, by one system call; Unavailable as for one."""
        found = dict(zip(self.names, self._read() if self._final is None else self._final, strict=True))
        for name in names:
            if found[name] == 0 and not _proven.get(_family(name)):
                raise Unavailable(
                    f"{name} counted nothing, and was never seen counting on this kernel",
                    "pass a stimulus that makes it count, or use the library's own ledger",
                )
        return {name: found[name] for name in names}

    def _prove(self, name: str) -> None:
        family = _family(name)
        stimulus = self._stimuli.get(name) or STIMULI.get(family)
        if family in _proven or stimulus is None:
            return
        fd = _open("syscalls:getppid" if family == SYSCALL else name, -1)
        try:
            ioctl(fd, perf.PERF_EVENT_IOC_ENABLE)
            stimulus()
            ioctl(fd, perf.PERF_EVENT_IOC_DISABLE)
            _proven[family] = unpack("QQ", os.read(fd, 16))[1] > 0
        finally:
            os.close(fd)

    def _read(self) -> list[int]:
        raw = os.read(self._fds[0], 8 * (1 + len(self._fds)))
        return list(unpack(f"{len(raw) // 8}Q", raw))[1:]

    def _close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


_proven: dict[str, bool] = {}
"""Counters by family: were they seen counting?"""


def _family(name: str) -> str:
    return SYSCALL if name.startswith(SYSCALL) else name


def _open(name: str, leader: int) -> int:
    if name.startswith(SYSCALL):
        calls = name.removeprefix(SYSCALL).split("|")
        tracepoint, condition = "raw_syscalls/sys_enter", " || ".join(f"id == {number_of(call)}" for call in calls)
    else:
        tracepoint, condition = NAMED.get(name, (name.replace(":", "/", 1), ""))
    attr = perf.perf_event_attr(
        type=perf.PERF_TYPE_TRACEPOINT,
        size=ctypes.sizeof(perf.perf_event_attr),
        config=_identity(tracepoint),
        read_format=perf.PERF_FORMAT_GROUP,
        flags=perf.ATTR_DISABLED if leader < 0 else 0,
    )
    try:
        fd = syscall("perf_event_open", ctypes.addressof(attr), 0, -1, leader, perf.PERF_FLAG_FD_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            f"perf_event_open for {name}: {error.strerror}", "needs CAP_PERFMON or sysctl kernel.perf_event_paranoid=-1"
        ) from error
    try:
        if condition:
            text = condition.encode() + b"\0"
            ioctl(fd, perf.PERF_EVENT_IOC_SET_FILTER, bytes_address(text))
    except BaseException:
        os.close(fd)
        raise
    return fd


@cache
def _identity(tracepoint: str) -> int:
    _mount_tracefs()
    try:
        with open(f"{TRACEFS}/events/{tracepoint}/id") as file:
            return int(file.read())
    except OSError as error:
        advice = (
            "run as root, or give this user access to tracefs"
            if error.errno in (errno.EACCES, errno.EPERM)
            else "this kernel was built without it"
        )
        raise Unavailable(f"tracepoint {tracepoint}: {error.strerror}", advice) from error


def _mount_tracefs() -> None:
    """Mount tracefs where it belongs when it is missing and we may; whoever reads it next says what is wrong."""
    if os.path.exists(f"{TRACEFS}/events") or os.geteuid() != 0:
        return
    kind, place = b"tracefs\0", TRACEFS.encode() + b"\0"
    try:
        syscall("mount", bytes_address(kind), bytes_address(place), bytes_address(kind), 0, 0)
    except OSError as error:
        raise Unavailable(
            f"tracefs is not mounted and cannot be: {error.strerror}", f"mount -t tracefs tracefs {TRACEFS}"
        ) from error
