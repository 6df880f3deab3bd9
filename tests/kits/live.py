"""What a test that needs a kernel feature says when the feature is missing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pagewarden.vocab import Unavailable

LATER = "UFFD_FEATURE_RWP"
"""What no machine need have as yet: its tests run inside a guest of the lab's (tests/lab/test_rwp.py)."""


def require(available: bool, reason: str) -> None:
    """Skip with the reason; fail instead when PAGEWARDEN_REQUIRE_LIVE=1, so that a machine that must have it shows."""
    if available:
        return
    if os.environ.get("PAGEWARDEN_REQUIRE_LIVE") == "1" and LATER not in reason:
        pytest.fail(f"required here: {reason}")
    pytest.skip(reason)


@contextmanager
def required() -> Iterator[None]:
    """What is Unavailable within is required."""
    try:
        yield
    except Unavailable as lacking:
        require(False, str(lacking))
