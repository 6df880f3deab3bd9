"""Memories that many tests ask for."""

from collections.abc import Iterator

import pytest

from pagewarden.memory import PrivateMemory
from private_kit import CONVERTING, GUARDED, made


@pytest.fixture(params=CONVERTING)
def memory(request: pytest.FixtureRequest) -> Iterator[PrivateMemory]:
    with made(request.param) as mem:
        yield mem


@pytest.fixture(params=GUARDED)
def guarded(request: pytest.FixtureRequest) -> Iterator[PrivateMemory]:
    with made(request.param) as mem:
        yield mem
