"""Scripts of system calls, copies and touches, run and timed by compiled code: what a call costs without Python.

A script is a list of rows that are executed in order, round after round. Each row is timed on its own, or the whole.
The loop is compiled by numba and holds no interpreter lock, so another thread may run Python or another script.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from pagewarden.kernel.machine import number_of
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit

CALL, COPY, TOUCH, ZERO, NOTHING = range(5)

_syscall: Any = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))
_memcpy: Any = types.ExternalFunction("memcpy", types.uintp(types.uintp, types.uintp, types.uintp))
_memset: Any = types.ExternalFunction("memset", types.uintp(types.uintp, types.int32, types.uintp))
_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.uintp))
_errno: Any = types.ExternalFunction("__errno_location", types.uintp())
_CLOCK_MONOTONIC = 1


class Primitive(NamedTuple):
    """One thing to do: its kind, and up to six numbers that depend on the kind."""

    name: str
    kind: int
    number: int
    arguments: tuple[int, ...]
    mapped: int = -1  # which argument is counted from where the last mmap of the script put its mapping


def call(name: str, *arguments: int, mapped: int = -1) -> Primitive:
    """A raw system call."""
    return Primitive(name, CALL, number_of(name), arguments, mapped)


def copy(target: int, source: int, length: int, step: int = 0, span: int = 1) -> Primitive:
    """memcpy of so many bytes; in round k both addresses are k * step further, modulo span (bytes)."""
    return Primitive("copy", COPY, 0, (target, source, length, step, span))


def touch(address: int, pages: int, mapped: int = -1) -> Primitive:
    """Load a byte of each page."""
    return Primitive("touch", TOUCH, 0, (address, pages), mapped)


def zero(address: int, length: int) -> Primitive:
    """memset of so many bytes to 0."""
    return Primitive("zero", ZERO, 0, (address, length))


NOTHING_ROW = Primitive("nothing", NOTHING, 0, ())
"""What a row costs that does nothing: the clock, and the loop around it."""


class PrimitiveScript:
    """sampling.Timed: rows that run in order. OSError says which system call failed; the rounds until then were done.
    whole: timed as one row."""

    def __init__(self, rows: Sequence[Primitive], whole: bool = False) -> None:
        self.rows, self._whole = tuple(rows), whole
        self._code = np.zeros((len(rows), 9), np.int64)
        for i, row in enumerate(rows):
            self._code[i, : 3 + len(row.arguments)] = row.kind, row.number, row.mapped, *row.arguments
        self._mmap = number_of("mmap")

    def time(self, rounds: int) -> list[float]:
        """ns that each row took, the mean of the rounds; the clock is in it (see NOTHING_ROW)."""
        spent, scratch = np.zeros(1 if self._whole else len(self.rows), np.int64), np.zeros(4, np.int64)
        failed = perform(self._code, self._mmap, rounds, not self._whole, spent, scratch)
        if failed >= 0:
            code = int(scratch[2]) & 0xFFFF_FFFF
            raise OSError(code, f"{self.rows[failed].name}: {os.strerror(code)}")
        return [float(ns) / rounds for ns in spent]


@njit(nogil=True, inline="always")
def _now(scratch: Any) -> int:
    """ns; scratch is room for a struct timespec."""
    _clock_gettime(_CLOCK_MONOTONIC, scratch.ctypes.data)
    return scratch[0] * 1_000_000_000 + scratch[1]  # type: ignore[no-any-return]  # numba's arrays are Any to mypy


@njit(nogil=True)
def perform(rows: Any, mmap: int, rounds: int, each: bool, spent: Any, scratch: Any) -> int:
    """Run the script; -1, or the row whose system call failed (errno in scratch[2]). ns are added to spent.

    mmap: the number of that system call, whose result is kept."""
    room = scratch.ctypes.data + 24
    mapping = 0
    argument = np.zeros(6, np.int64)
    before = _now(scratch)
    for k in range(rounds):
        for i in range(len(rows)):
            kind = rows[i, 0]
            for j in range(6):
                argument[j] = rows[i, 3 + j]
            if rows[i, 2] >= 0:
                argument[rows[i, 2]] += mapping
            a, b, c = argument[0], argument[1], argument[2]
            if kind == CALL:
                result = _syscall(rows[i, 1], a, b, c, argument[3], argument[4], argument[5])
                if result == -1:
                    _memcpy(scratch.ctypes.data + 16, _errno(), 4)
                    return i
                if rows[i, 1] == mmap:
                    mapping = result
            elif kind == COPY:
                further = k * argument[3] % argument[4]
                _memcpy(a + further, b + further, c)
            elif kind == TOUCH:
                for page in range(b):
                    _memcpy(room, a + page * PAGE_SIZE, 1)
            elif kind == ZERO:
                _memset(a, 0, b)
            if each:
                after = _now(scratch)
                spent[i] += after - before
                before = after
    if not each:
        spent[0] += _now(scratch) - before
    return -1


@njit(nogil=True)
def spin(stop: Any, limit: int, scratch: Any) -> int:
    """For another thread, which it keeps busy without the interpreter lock: rounds until stop[0] is set or the time
    (ns) is over."""
    end, rounds = _now(scratch) + limit, 0
    while stop[0] == 0 and _now(scratch) < end:
        rounds += 1
    return rounds
