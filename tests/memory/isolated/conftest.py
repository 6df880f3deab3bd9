"""A memory whose host is not trusted."""

from collections.abc import Iterator

import pytest

from isolated_kit import PAGES
from pagewarden.memory import PAGE_SIZE, PrivateMemory
from private_kit import made


@pytest.fixture
def mem() -> Iterator[PrivateMemory]:
    with made("auto", PAGES * PAGE_SIZE, isolated=True) as memory:
        memory.populate(0, b"".join(b"page %03d" % page + bytes([page + 1]) * (PAGE_SIZE - 8) for page in range(PAGES)))
        yield memory
