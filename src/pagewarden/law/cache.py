"""Tables kept on disk between runs, under a name that the rules' own text and the policy decide.

A file is believed when it lies where only this user can write, and holds a digest of the rules, the policy and its own
contents. The checker does without: nothing on a disk can make it say that a property holds.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from pagewarden.law.policy import Policy
from pagewarden.vocab import places

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
    text = repr((policy.level, sorted(policy.mechanisms), policy.fault, policy.starts)).encode()
    return hashlib.sha256(_rules() + text).digest()


def _path(policy: Policy) -> Path | None:
    home = places.private_cache()
    return None if home is None else home / f"law-{_key(policy).hex()[:32]}"


def load(policy: Policy) -> Arrays | None:
    """The arrays of a table that was stored, or None."""
    path = _path(policy)
    data = None if path is None else places.kept(path, _key(policy))
    if data is None:
        return None
    with np.load(BytesIO(data)) as stored:
        return {name: stored[name] for name in stored.files}


def store(policy: Policy, arrays: Arrays) -> None:
    """Keep a table, whole or not at all; a directory that cannot be written is no error."""
    path = _path(policy)
    if path is None:
        return
    data = BytesIO()
    np.savez_compressed(data, **arrays)
    places.keep(path, _key(policy), data.getvalue())
    for old in places.all_but_newest(path.parent.glob("law-*"), KEPT):
        with suppress(OSError):
            old.unlink(missing_ok=True)
