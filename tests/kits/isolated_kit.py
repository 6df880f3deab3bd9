"""What a host side of a small memory says, and what is kept from one test of it to the next."""

import os
from collections.abc import Iterator
from typing import Protocol, TypeVar

import pytest

from pagewarden.memory import PAGE_SIZE
from pagewarden.memory.isolated.messages import MessageKind
from pagewarden.memory.isolated.process import HostProcess
from waits import SOON

PAGES = 8


def heard(host: HostProcess) -> tuple[int, bytes]:
    message = host.receive(SOON)
    assert message is not None and message.kind is MessageKind.REPORT, message
    return message.value, message.data


def seen(host: HostProcess, page: int) -> bytes | None:
    """What `peek` sees of the page: None when it is refused, at the offset of the page."""
    host.tell(page)
    value, data = heard(host)
    assert value == 0 or int(data) == page * PAGE_SIZE
    return data if value == 0 else None


class Keeps(Protocol):
    """What tests of one room share, made anew where one of them has broken it."""

    def ready(self) -> object: ...
    def close(self) -> None: ...


Kept = TypeVar("Kept", bound=Keeps)


def kept(made: Kept) -> Iterator[Kept]:
    """A fixture's, for what looks into the host side's page table."""
    if os.geteuid() != 0:
        pytest.skip("only root may ask for another process's page table")
    made.ready()
    yield made
    made.close()
