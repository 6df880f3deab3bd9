"""A memory whose host is not trusted."""

from collections.abc import Iterator

import pytest

from isolated_kit import PAGES
from live import require
from pagewarden.memory import PAGE_SIZE, PrivateMemory, Unavailable


@pytest.fixture
def mem() -> Iterator[PrivateMemory]:
    try:
        memory = PrivateMemory(PAGES * PAGE_SIZE, isolated=True)
    except Unavailable as lacking:
        require(False, str(lacking))
        raise
    with memory:
        memory.populate(0, b"".join(b"page %03d" % page + bytes([page + 1]) * (PAGE_SIZE - 8) for page in range(PAGES)))
        yield memory
