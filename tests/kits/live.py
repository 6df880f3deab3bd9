"""What a test that needs a kernel feature says when the feature is missing."""

import os

import pytest


def require(available: bool, reason: str) -> None:
    """Skip with the reason; fail instead when PAGEWARDEN_REQUIRE_LIVE=1, so that a machine that must have it shows."""
    if available:
        return
    if os.environ.get("PAGEWARDEN_REQUIRE_LIVE") == "1":
        pytest.fail(f"required here: {reason}")
    pytest.skip(reason)
