"""Faults on purpose: an exception at any system call through the door, or at any instruction of the library."""

import ctypes
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import pytest

import pagewarden
from pagewarden.kernel import door, uffd
from pagewarden.kernel.region import Region
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused

LIBRARY = os.path.dirname(pagewarden.__file__)
ROOMS = tuple(os.path.join(LIBRARY, room) for room in ("memory", "kernel"))


class Struck(BaseException):
    """What a signal handler may raise anywhere: no code expects it by name."""


Fault = Callable[[], BaseException]


class Calls:
    """Counts the system calls; at the chosen ones (from 1) a fault, before the call is made or after.

    A fault that is an OSError comes instead of the call, as the kernel's answer would.
    """

    def __init__(self, faults: dict[int, Fault], after: bool = False) -> None:
        self.faults, self.after, self.made = faults, after, 0

    def around(self, call: Callable[..., Any], *arguments: Any) -> Any:
        self.made += 1
        fault = self.faults.get(self.made)
        if fault is not None and not self.after:
            raise fault()
        try:
            return call(*arguments)
        finally:
            if fault is not None:
                raise fault()


class _Library:
    """The C library whose syscall and ioctl are counted."""

    def __init__(self, libc: ctypes.CDLL, calls: Calls) -> None:
        self._libc, self._calls = libc, calls

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._libc, name)
        if name not in ("syscall", "ioctl"):
            return function

        def counted(*arguments: Any) -> Any:
            try:
                return self._calls.around(function, *arguments)
            except OSError as error:
                ctypes.set_errno(error.errno or 0)
                return -1

        return counted


@contextmanager
def struck_calls(calls: Calls) -> Iterator[Calls]:
    """All system calls of the library are counted here, those of compiled code and of `os` aside."""
    advise, adviser, ioctl = Region.advise, Region.adviser, door.ioctl_inplace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "_libc", _Library(door._libc, calls))
        patch.setattr(Region, "advise", lambda *arguments: calls.around(advise, *arguments))
        patch.setattr(Region, "adviser", lambda *arguments: partial(calls.around, adviser(*arguments)))
        patch.setattr(uffd, "ioctl_inplace", lambda *arguments: calls.around(ioctl, *arguments))
        yield calls


class Instructions:
    """Raises at the n-th instruction (from 1) that the library executes; `seen` counts them."""

    def __init__(self, fatal: int, rooms: tuple[str, ...] = ROOMS) -> None:
        self.fatal, self.rooms, self.seen = fatal, rooms, 0
        self.where = ""

    def _global(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self.rooms):
            return None
        frame.f_trace_opcodes = True
        return self._local

    def _local(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            self.seen += 1
            if self.seen == self.fatal:
                self.where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
                raise Struck(self.where)
        return self._local

    def __enter__(self) -> "Instructions":
        gc.disable()  # what an earlier test left must not be collected in here
        self._before = sys.gettrace()
        sys.settrace(self._global)
        return self

    def __exit__(self, *failure: object) -> None:
        sys.settrace(self._before)
        gc.enable()


def open_pages(mem: PrivateMemory) -> list[bool]:
    """Which pages the kernel copies out of the host's window: its word, not the library's, and nothing is reopened."""
    view, found = mem._backing.window.memory, []  # type: ignore[union-attr]  # no isolated memory comes here
    file = os.memfd_create("ask")
    for page in range(mem.size // PAGE_SIZE):
        try:
            found.append(os.pwrite(file, view[page * PAGE_SIZE : page * PAGE_SIZE + 1], 0) == 1)
        except OSError as error:
            assert error.errno == errno.EFAULT
            found.append(False)
    os.close(file)
    return found


def judge(mem: PrivateMemory, contents: list[set[bytes]], where: str) -> str:
    """After a fault: nothing open that is called private, no byte lost (of each page one of the contents, a byte that
    fills it), and the memory usable or clearly broken; which of the two."""
    pages = len(contents)
    every = PageRange(0, pages)
    guarded = mem.backing in ("uffd-window", "memfd-secret")
    if guarded:
        ledger = [bool(each) for each in mem._state.shared]
        wrong = [page for page, answers in enumerate(open_pages(mem)) if answers and not ledger[page]]
        assert not wrong, f"{where}: the host reads pages {wrong}, which the ledger calls private"
    found = [mem._backing.guest.memory[page * PAGE_SIZE :][:PAGE_SIZE].tobytes() for page in range(pages)]
    for page, (data, allowed) in enumerate(zip(found, contents, strict=True)):
        assert data in {each * PAGE_SIZE for each in allowed}, f"{where}: page {page} lost its bytes"
    try:
        mem.share(every)
    except Refused as refusal:
        assert "can only be closed" in str(refusal), f"{where}: {refusal}"
        assert not any(open_pages(mem)), f"{where}: broken, and open"
        return "broken"
    assert mem.window.read(0, mem.size) == b"".join(found), where
    if guarded:
        assert all(open_pages(mem)), where
    mem.unshare(every)
    if guarded:
        assert not any(open_pages(mem)), where
    assert not list(mem.shared_runs()), where
    return "usable"
