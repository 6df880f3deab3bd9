"""A memory whose host is not trusted."""

from collections.abc import Iterator

import pytest

from isolated_kit import PAGES
from pagewarden.memory import PAGE_SIZE, PrivateMemory
from private_kit import made


def _numbered(backing: str) -> Iterator[PrivateMemory]:
    with made(backing, PAGES * PAGE_SIZE, isolated=True) as memory:
        memory.populate(0, b"".join(b"page %03d" % page + bytes([page + 1]) * (PAGE_SIZE - 8) for page in range(PAGES)))
        yield memory


@pytest.fixture
def mem() -> Iterator[PrivateMemory]:
    yield from _numbered("auto")


@pytest.fixture
def replacing() -> Iterator[PrivateMemory]:
    """One whose pages are replaced, wherever they could be protected."""
    yield from _numbered("uffd-window")
