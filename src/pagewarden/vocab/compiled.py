"""Functions compiled by numba, whose code is kept on disk where nobody else can put any, or not at all.

numba's cache is a pickle: who can write it runs code here. So it lies in a private directory, of this user's cache or
where NUMBA_CACHE_DIR says, under a name that the text of all compiled functions of a folder, and of kernel/, decides:
numba itself looks at the caller's file only, and would run an old callee of another one. A cache that cannot be read or
written is no error: the function is compiled again.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

from pagewarden.vocab.places import all_but_newest, private, private_cache

KEPT = 64
"""Directories of compiled code: one for each folder that has some, about ten, of several installations and texts."""
_MARKS = (b"njit", b"@hot", b"intrinsic", b"from_dtype")


def njit(*given: Any, **options: Any) -> Any:
    """numba.njit with a cache: `@njit`, `@njit(nogil=True)`, `njit("i8(i8)")(function)`, which compiles at once."""
    if given and callable(given[0]):
        return _compiled(given[0], None, options)
    return lambda function: _compiled(function, given[0] if given else None, options)


def _compiled(function: Callable[..., Any], signature: Any, options: dict[str, Any]) -> Any:
    import numba

    place, config = _place(str(Path(function.__code__.co_filename).parent)), cast(Any, numba.config)
    if config.DISABLE_JIT:
        return function
    usual, config.CACHE_DIR = config.CACHE_DIR, str(place or "")
    try:
        made = numba.njit(cache=place is not None, **options)(function)
    finally:
        config.CACHE_DIR = usual
    if place is not None:
        _tolerate(made._cache)
    if signature is not None:
        made.compile(signature)
        made.disable_compile()
    return made


def entry(function: Any) -> Any:
    """What Python calls in the end, of a compiled function with a single signature: without numba's dispatch, which
    takes longer (0.1 us) than much of what is compiled here. Positional arguments only."""
    overloads = getattr(function, "overloads", None)
    if overloads is None:  # not compiled (NUMBA_DISABLE_JIT)
        return function
    (found,) = overloads.values()
    return found.entry_point


def _tolerate(kept: Any) -> None:
    """A full disk, a limit, a file that was cut short: without a cache then."""
    load, save = kept.load_overload, kept.save_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # whatever unpickling a broken file raises: begin a new one
            with suppress(OSError):
                kept.flush()
            return None

    def save_overload(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    kept.load_overload, kept.save_overload = load_overload, save_overload


@cache
def _place(folder: str) -> Path | None:
    folders = dict.fromkeys((Path(folder), Path(__file__).parent.parent / "kernel"))  # all may call compiled code there
    texts = [file.read_bytes() for each in folders for file in sorted(each.glob("*.py"))]
    text = b"\0".join(text for text in texts if any(mark in text for mark in _MARKS))
    digest = hashlib.sha256(f"{sys.version}\0{folder}\0".encode() + text).hexdigest()[:16]
    named = os.environ.get("NUMBA_CACHE_DIR")
    home = private(Path(named)) if named else private_cache()
    if home is None:
        return None
    for old in all_but_newest(home.glob("compiled-*"), KEPT):
        shutil.rmtree(old, ignore_errors=True)
    return private(home / f"compiled-{digest}")
