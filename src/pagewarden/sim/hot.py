"""Hot loops: plain Python until there is so much to do that loading the compiler pays, then compiled by numba.

Loading numba and compiled code from disk takes longer than a few hundred requests take interpreted; a single request's
table should not wait for it. The code is the same either way, and tests run it both ways.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pagewarden.vocab.places import cache_directory

Function = TypeVar("Function", bound=Callable[..., Any])
_plain: list[Callable[..., Any]] = []


def hot(function: Function) -> Function:
    """A function that `compile_hot` compiles. It may call other hot functions by name, of its own or another module."""
    _plain.append(function)
    return function


def compile_hot() -> None:
    """From now on every hot function is compiled, at its first call or from the disk's cache."""
    if not _plain:
        return
    import numba

    _separate_cache(numba.config)
    compiled = {id(function): numba.njit(cache=True)(function) for function in _plain}
    for name in {function.__module__ for function in _plain}:
        names = vars(sys.modules[name])
        names.update({key: compiled[id(value)] for key, value in names.items() if id(value) in compiled})
    _plain.clear()


def _separate_cache(config: Any) -> None:
    """A directory for just this text of the hot functions: numba looks at the caller's file only, and would run an old
    callee of another file."""
    files = sorted({Path(function.__code__.co_filename) for function in _plain})
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    place = cache_directory() / f"compiled-{digest}"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not config.CACHE_DIR and os.access(place, os.W_OK):
        config.CACHE_DIR = str(place)
