"""Compiled conversions whose system calls go through the door, where they are counted and refused like all others."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FunctionType
from typing import Any

import llvmlite.binding
import numba
import pytest
from numba import types

from pagewarden.kernel import door
from pagewarden.memory import batch

_Ioctl = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p)
_Madvise = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _answered(call: Callable[..., object], *arguments: Any) -> int:
    """0, or -1 as the C library says it."""
    try:
        call(*arguments)
    except OSError:
        return -1
    return 0


_ioctl = _Ioctl(lambda fd, request, argument: _answered(door.ioctl, fd, request, argument))
_madvise = _Madvise(lambda address, length, advice: _answered(door.syscall, "madvise", address, length, advice))


@cache
def _by_the_door() -> tuple[Any, Callable[[Any], Any]]:
    """batch._compiled and batch._entry of the same functions, which are not kept on disk."""
    for name, call in (("door_ioctl", _ioctl), ("door_madvise", _madvise)):
        llvmlite.binding.add_symbol(name, ctypes.cast(call, ctypes.c_void_p).value)
    calls: dict[str, Any] = {
        "_ioctl": types.ExternalFunction("door_ioctl", types.int32(types.int32, types.uint64, types.uintp)),
        "_madvise": types.ExternalFunction("door_madvise", types.int32(types.uintp, types.uintp, types.int32)),
    }

    def over(function: Any) -> Any:
        return FunctionType(function.__code__, {**vars(batch), **calls})

    calls["_turned"] = numba.njit(over(batch._turn))

    @cache
    def entry(function: Any) -> Any:
        compiled: Any = numba.njit("i8(i8,i8,i8)")(over(function))
        (found,) = compiled.overloads.values()
        return found.entry_point

    return numba.njit(nogil=True)(over(batch._change)), entry


@contextmanager
def compiled_by_the_door() -> Iterator[None]:
    """For memories that are made and converted in here. An errno at a call; no exception can come there."""
    compiled, entry = _by_the_door()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_compiled", compiled)
        patch.setattr(batch, "_entry", entry)
        yield
