"""A memory that moves, and the tickets of where it goes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from moving_kit import a_memory, tickets_in
from pagewarden.keep.moving.tickets import Tickets
from pagewarden.memory import PrivateMemory


@pytest.fixture
def tickets(tmp_path: Path) -> Tickets:
    return tickets_in(tmp_path)


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    with a_memory() as made:
        yield made


@pytest.fixture
def before(memory: PrivateMemory) -> bytes:
    return memory.private_read(0, memory.size)
