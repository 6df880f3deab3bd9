"""Functions compiled by numba, whose code is kept on disk where nobody else can put any, or not at all.

A cache of code is a pickle: who can write it runs code here. So it lies in a private directory, of this user's cache or
where NUMBA_CACHE_DIR says, and each file holds a digest of its key and of its contents, which is looked at before
anything is unpickled. The key is made of the text of all compiled functions of a folder, of kernel/ and of this one:
numba's own cache looks at the caller's file only, and would run an old callee of another one. What cannot be read or
written is no error: the function is compiled again.
"""

import hashlib
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

from pagewarden.vocab import places

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

    if cast(Any, numba.config).DISABLE_JIT:
        return function
    made: Any = numba.njit(**options)(function)
    made._cache = Kept(function, _place(str(Path(function.__code__.co_filename).parent)))
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


class Kept:
    """numba's protocol of a cache (numba/core/caching.py, _Cache): one file for each function and signature."""

    def __init__(self, function: Callable[..., Any], place: "CodePlace") -> None:
        self._function, self._place = function, place

    @property
    def cache_path(self) -> str | None:
        """The directory; None where nothing is kept."""
        return None if self._place is None else str(self._place[0])

    def _file(self, signature: Any, machine: Any) -> tuple[Path, bytes]:
        """Where the code for this signature and machine is, and its key: closures decide what is compiled, too."""
        assert self._place is not None
        directory, texts = self._place
        code = self._function.__code__
        held = _core().serialize.dumps(tuple(cell.cell_contents for cell in self._function.__closure__ or ()))
        where = repr((code.co_filename, code.co_firstlineno, self._function.__qualname__, str(signature), machine))
        key = hashlib.sha256(b"\0".join((texts, where.encode(), code.co_code, held))).digest()
        return directory / f"{self._function.__name__.strip('<>')}-{key.hex()[:16]}", key

    def load_overload(self, signature: Any, target: Any) -> Any:
        """What was compiled once, or None."""
        target.refresh()
        if self._place is None:
            return None
        data = places.kept(*self._file(signature, target.codegen().magic_tuple()))
        with suppress(Exception):  # whatever another version's pickle raises: it is made anew
            return None if data is None else _core().compiler.CompileResult._rebuild(target, *pickle.loads(data))
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep it, unless addresses of this process are part of it."""
        lifted = all(loop.can_cache for loop in compiled.lifted)
        if self._place is not None and lifted and not compiled.library.has_dynamic_globals:
            path, key = self._file(signature, compiled.codegen.magic_tuple())
            places.keep(path, key, _core().serialize.dumps(compiled._reduce()))

    def flush(self) -> None:
        """What is wrong is never believed, so nothing has to go."""


def _core() -> Any:
    import numba.core.compiler
    import numba.core.serialize

    return numba.core


CodePlace = tuple[Path, bytes] | None
"""A directory, and a digest of the texts that its code was made from; None where none is to be had."""


@cache
def _place(folder: str) -> CodePlace:
    import numba

    here = Path(__file__).parent  # says how all are compiled; and all may call compiled code of the kernel's
    folders = dict.fromkeys((Path(folder), here, here.parent / "kernel"))
    texts = [file.read_bytes() for each in folders for file in sorted(each.glob("*.py"))]
    text = b"\0".join(text for text in texts if any(mark in text for mark in _MARKS))
    digest = hashlib.sha256(f"{sys.version}\0{numba.__version__}\0{folder}\0".encode() + text).digest()
    named = os.environ.get("NUMBA_CACHE_DIR")
    home = places.private(Path(named)) if named else places.private_cache()
    if home is None:
        return None
    for old in places.all_but_newest(home.glob("compiled-*"), KEPT):
        shutil.rmtree(old, ignore_errors=True)
    place = places.private(home / f"compiled-{digest.hex()[:16]}")
    return None if place is None else (place, digest)
