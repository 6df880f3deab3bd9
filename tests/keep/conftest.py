"""A memory that moves, and the tickets of where it goes; and a keeper of VMMs' memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keeper_kit import PAGES, RunningKeeper
from kept_kit import content
from moving_kit import a_memory, tickets_in
from pagewarden.keep.moving.tickets import Tickets
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory import PrivateMemory
from plain_vmm import FEATURES


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Userfault(FEATURES).close()
    (tmp_path / "mem").write_bytes(b"".join(map(content, range(PAGES))))
    return tmp_path


@pytest.fixture
def keeper(folder: Path) -> Iterator[RunningKeeper]:
    running = RunningKeeper(folder)
    yield running
    running.process.kill()
    running.process.communicate()
