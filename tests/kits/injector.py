"""Faults on purpose: an exception at any system call through the door, at any instruction of the library, wherever a
signal handler may run, or where memory is needed."""

import ctypes
import dis
import errno
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import CodeType, FrameType, TracebackType
from typing import Any, Self

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
                if function.restype is door.Descriptor:
                    raise ValueError("as of -1") from error
                return -1

        return counted


@contextmanager
def struck_calls(calls: Calls) -> Iterator[Calls]:
    """All system calls of the library are counted here, those of compiled code and of `os` aside."""
    advise, adviser, ioctl = Region.advise, Region.adviser, door.ioctl_inplace
    with pytest.MonkeyPatch.context() as patch:
        for library in ("_libc", "_opening"):
            patch.setattr(door, library, _Library(getattr(door, library), calls))
        patch.setattr(Region, "advise", lambda *arguments: calls.around(advise, *arguments))
        patch.setattr(Region, "adviser", lambda *arguments: partial(calls.around, adviser(*arguments)))
        patch.setattr(uffd, "ioctl_inplace", lambda *arguments: calls.around(ioctl, *arguments))
        yield calls


class Somewhere:
    """Raises at the n-th of some places (from 1) that the library comes to; `seen` counts them, `where` is that one."""

    def __init__(self, fatal: int, rooms: tuple[str, ...] = ROOMS) -> None:
        self.fatal, self.rooms, self.seen = fatal, rooms, 0
        self.where = ""

    def come_to(self, frame: FrameType) -> None:
        self.seen += 1
        if self.seen == self.fatal:
            self.where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
            raise Struck(self.where)

    def hook(self, on: bool) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        gc.disable()  # what an earlier test left must not be collected in here
        self._heard, sys.unraisablehook = sys.unraisablehook, lambda lost: None  # it would keep what was cut off
        self.hook(True)
        return self

    def __exit__(self, *failure: object) -> None:
        self.hook(False)
        sys.unraisablehook = self._heard
        gc.enable()


class Instructions(Somewhere):
    """At any instruction out of which an exception can come."""

    def hook(self, on: bool) -> None:
        if on:
            self._before = sys.gettrace()
        sys.settrace(self._global if on else self._before)

    def _global(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self.rooms):
            return None
        frame.f_trace_opcodes = True
        return self._local

    def _local(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode" and frame.f_lasti in _risky(frame.f_code):
            self.come_to(frame)
        return self._local


HARMLESS = {"CACHE", "COPY", "COPY_FREE_VARS", "EXTENDED_ARG", "JUMP_FORWARD", "KW_NAMES", "LOAD_CLOSURE", "LOAD_CONST"}
HARMLESS |= {"LOAD_FAST", "MAKE_CELL", "NOP", "POP_EXCEPT", "POP_TOP", "PRECALL", "PUSH_EXC_INFO", "PUSH_NULL"}
HARMLESS |= {"RERAISE", "RETURN_VALUE", "STORE_FAST", "SWAP", "WITH_EXCEPT_START"}
"""They move values, and nothing else; or call the `__exit__` of a block that an exception leaves."""


@cache
def _risky(code: CodeType) -> frozenset[int]:
    """Where those instructions are. The call of `__exit__` at the end of a `with` block is none: it follows the block
    without any place where a signal handler runs or memory is needed."""
    found, nones = set(), 0
    for each in dis.get_instructions(code):
        if each.opname not in HARMLESS and not (each.opname == "CALL" and nones == 3):
            found.add(each.offset)
        if each.opname != "PRECALL":
            nones = nones + 1 if each.opname == "LOAD_CONST" and each.argval is None else 0
    return frozenset(found)


class Signals(Somewhere):
    """Wherever CPython runs the handlers of signals: at the start of a function, and after every call, of C code too
    (Python/ceval.c, CHECK_EVAL_BREAKER)."""

    def hook(self, on: bool) -> None:
        sys.setprofile(self._profile if on else None)

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "return", "c_return") and frame.f_code.co_filename.startswith(self.rooms):
            self.come_to(frame)


class Allocations(Somewhere):
    """The n-th time that the interpreter needs memory there is none: MemoryError, or what a caller in C makes of it.
    `seen` is what was asked for, as far as that can be told: n when something was refused."""

    def hook(self, on: bool) -> None:
        testcapi = pytest.importorskip("_testcapi")
        if on:
            testcapi.set_nomemory(self.fatal - 1, self.fatal)
        else:
            testcapi.remove_mem_hooks()

    def __exit__(self, *failure: object) -> None:
        super().__exit__(*failure)
        self.seen = self.fatal if isinstance(failure[1], (MemoryError, SystemError, ctypes.ArgumentError)) else 0
        at = failure[2]
        while isinstance(at, TracebackType):
            self.where = f"no memory in {at.tb_frame.f_code.co_name}, line {at.tb_lineno}"
            at = at.tb_next


def elsewhere(act: Callable[[], object]) -> None:
    """Do it in another thread, which no lock that was left may stop; what it raises."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert raised, "another thread waits for a lock that nobody gives back"
    if raised[0] is not None:
        raise raised[0]


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
        elsewhere(lambda: mem.share(every))
    except Refused as refusal:
        assert "can only be closed" in str(refusal), f"{where}: {refusal}"
        assert not any(open_pages(mem)), f"{where}: broken, and open"
        return "broken"
    assert mem.window.read(0, mem.size) == b"".join(found), where
    if guarded:
        assert all(open_pages(mem)), where
    elsewhere(lambda: mem.unshare(every))
    if guarded:
        assert not any(open_pages(mem)), where
    assert not list(mem.shared_runs()), where
    return "usable"
