"""Tables kept on disk between runs, under a name that the rules' own text and the policy decide."""

import hashlib
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pagewarden.law.policy import Policy
from pagewarden.vocab.places import cache_directory

Arrays = Mapping[str, Any]
"""Name -> array."""


@cache
def _rules() -> bytes:
    """A digest of every file that a table depends on."""
    package = Path(__file__).parent
    files = [*sorted(package.rglob("*.py")), package.parent / "vocab" / "events.py"]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).digest()


def _path(policy: Policy) -> Path:
    text = repr((policy.guard, sorted(policy.mechanisms), policy.fault)).encode()
    return cache_directory() / f"law-{hashlib.sha256(_rules() + text).hexdigest()[:32]}.npz"


def load(policy: Policy) -> Arrays | None:
    """The arrays of a table that was stored, or None."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(_path(policy)) as file:
        return {name: file[name] for name in file.files}
    return None


def store(policy: Policy, arrays: Arrays) -> None:
    """Keep a table, whole or not at all; a directory that cannot be written is no error."""
    path = _path(policy)
    part = path.with_suffix(f".{os.getpid()}.npz")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(part, **arrays)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
