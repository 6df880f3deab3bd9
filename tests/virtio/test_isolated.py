"""The device in another process that has nothing but its window: it serves, is killed, and is resumed."""

import os
from collections.abc import Iterator

import pytest

import host_device
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.port import Buffer
from pagewarden.virtio.driver import Driver
from pagewarden.virtio.ring import Ring
from virtio_kit import IN, OK, OUT, image_file, request
from waits import SOON

image = pytest.fixture(image_file)
PAGES = 32
RING = Ring.placed(16, PAGE_SIZE)
BUFFERS, SECRET = 4 * PAGE_SIZE, 16 * PAGE_SIZE


class GuestView:
    """The memory as its guest has it."""

    def __init__(self, memory: PrivateMemory) -> None:
        self.memory, self.size = memory, memory.size

    def read(self, offset: int, length: int) -> bytes:
        return self.memory.private_read(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        self.memory.private_write(offset, data)


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    with PrivateMemory(PAGES * PAGE_SIZE, isolated=True) as made:
        made.private_write(SECRET, b"secret" * 500)
        made.share(PageRange(1, 8))
        yield made


def heard(host: HostProcess) -> tuple[int, bytes]:
    message = host.receive(SOON)
    assert message is not None
    return message.value, message.data


def start(memory: PrivateMemory, image: int) -> HostProcess:
    host = memory.spawn(host_device.serve, (RING.size, RING.desc, RING.avail, RING.used), fds=(image,))
    assert heard(host) == (0, b"")
    return host


def add(guest: GuestView, driver: Driver, kind: int, data_at: int = BUFFERS) -> None:
    """A request of a page for sector 8, its header and status in the page before the buffers."""
    guest.write(BUFFERS - 64, request(kind, 8) + b"\xee")
    data = [(data_at, PAGE_SIZE)]
    driver.add_chain(
        [(BUFFERS - 64, 16), *(data if kind == OUT else [])], [*(data if kind == IN else []), (BUFFERS - 48, 1)]
    )
    driver.publish()


def test_it_serves_and_another_one_takes_over(memory: PrivateMemory, image: int) -> None:
    guest = GuestView(memory)
    driver = Driver(guest, RING, event_idx=True)
    host = start(memory, image)
    content = os.urandom(PAGE_SIZE)
    guest.write(BUFFERS, content)
    add(guest, driver, OUT)
    host.tell(0)
    assert heard(host)[0] == 1 and len(driver.reap()) == 1 and guest.read(BUFFERS - 48, 1)[0] == OK
    assert os.pread(image, PAGE_SIZE, 4096) == content
    guest.write(BUFFERS, bytes(PAGE_SIZE))
    add(guest, driver, IN)
    host.kill()
    host = start(memory, image)
    host.tell(0)
    assert heard(host)[0] == 1 and len(driver.reap()) == 1 and guest.read(BUFFERS, PAGE_SIZE) == content


@pytest.mark.parametrize("kind", [IN, OUT])
def test_a_private_buffer_is_refused_and_stays_secret(memory: PrivateMemory, image: int, kind: int) -> None:
    guest = GuestView(memory)
    driver = Driver(guest, RING, event_idx=True)
    before = os.pread(image, 1 << 20, 0)
    host = start(memory, image)
    add(guest, driver, kind, SECRET)
    host.tell(0)
    value, words = heard(host)
    assert value == host_device.RESET and b"is private" in words and driver.reap() == []
    assert os.pread(image, 1 << 20, 0) == before and guest.read(SECRET, 6) == b"secret"
