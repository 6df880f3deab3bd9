"""Tables kept on disk between runs, under a name that the rules' own text and the policy decide.

A file is believed when it lies where only this user can write, and holds a digest of the rules, the policy and its own
contents. The checker does without: nothing on a disk can make it say that a property holds.
"""

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.law.policy import Policy
from pagewarden.vocab.places import all_but_newest, own_file, private_cache

Arrays = Mapping[str, Any]
"""Name -> array."""
KEPT = 64
"""Tables; one is some 50 KiB."""


@cache
def _rules() -> bytes:
    """A digest of every file that a table depends on."""
    package = Path(__file__).parent
    files = [*sorted(package.rglob("*.py")), package.parent / "vocab" / "events.py"]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).digest()


def _key(policy: Policy) -> bytes:
    text = repr((policy.guard, sorted(policy.mechanisms), policy.fault)).encode()
    return hashlib.sha256(_rules() + text).digest()


def _path(policy: Policy) -> Path | None:
    home = private_cache()
    return None if home is None else home / f"law-{_key(policy).hex()[:32]}.npz"


def _digest(policy: Policy, arrays: Arrays) -> NDArray[np.uint8]:
    """uint8[32], of the rules, the policy and every array with its name and shape."""
    found = hashlib.sha256(_key(policy))
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        found.update(array.data if array.size else b"")
    return np.frombuffer(found.digest(), np.uint8)


def load(policy: Policy) -> Arrays | None:
    """The arrays of a table that was stored, or None."""
    path = _path(policy)
    if path is None:
        return None
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            if not own_file(file.fileno()):
                return None
            with np.load(file) as stored:
                arrays = {name: stored[name] for name in stored.files}
        if (arrays.pop("digest") == _digest(policy, arrays)).all():
            return arrays
    return None


def store(policy: Policy, arrays: Arrays) -> None:
    """Keep a table, whole or not at all; a directory that cannot be written is no error."""
    path = _path(policy)
    if path is None:
        return
    with suppress(OSError):
        fd, name = tempfile.mkstemp(prefix=".law-", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            with open(fd, "wb") as file:
                np.savez_compressed(file, digest=_digest(policy, arrays), **arrays)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        for old in all_but_newest(path.parent.glob("law-*.npz"), KEPT):
            old.unlink(missing_ok=True)
