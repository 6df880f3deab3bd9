"""An exception wherever one can arise in a device's reset: what the kernel answers is what the ledger says, every byte
of data is counted once, and the reset that is tried again gives everything back."""

import contextlib
import errno
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import pagewarden
from injector import Signals, Struck, elsewhere, open_pages
from pagewarden.memory import PrivateMemory
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused
from private_kit import made
from spawn_faults import Counted, descriptors, every_call
from virtio_kit import DEFAULT, IN, OK, SECTOR, Rig, image_disk, image_file

image, disk = pytest.fixture(image_file), pytest.fixture(image_disk)
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
ROOMS = os.path.dirname(pagewarden.__file__), contextlib.__file__
BACKINGS = ["uffd-window", "uffd-rwp", "memfd-secret", "memfd"]
SHARED, PAGES, QUEUES = PageRange(0, 12), 16, 2
FAULTS: dict[str, Callable[[], BaseException]] = {
    "signal": Struck,
    "EIO": lambda: OSError(errno.EIO, "on purpose"),
    "ENOMEM": lambda: OSError(errno.ENOMEM, "on purpose"),
}


class Served:
    """Two queues that have each carried a sector, their rings on loan."""

    def __init__(self, backing: str, disk: Disk) -> None:
        self.memory = made(backing, PAGES * PAGE_SIZE)
        self.memory.share(SHARED)
        self.rig = Rig(self.memory.window, disk, queues=QUEUES)
        self.device = self.rig.device
        self.serve()

    def serve(self) -> None:
        posts = [self.rig.post(IN, n, into=SECTOR, queue=n) for n in range(QUEUES)]
        for queue in range(QUEUES):
            assert self.rig.serve(queue)[0].completed == 1
        assert [post.status for post in posts] == [OK] * QUEUES

    def judge(self, where: str) -> None:
        """After a reset that something cut off: what holds at once, and once it was tried again elsewhere."""
        self.ledger(where)
        memory, device, carried = self.memory, self.device, QUEUES * SECTOR
        assert device.carried == carried, where
        taken = PageRange.covering(self.rig.rings[0].desc, 1)
        elsewhere(lambda: memory.unshare(taken))
        self.ledger(where)
        assert taken.start not in loans(memory), f"{where}: a page that is private is lent"
        elsewhere(device.reset)
        assert (device.status, device.features, device.carried) == (0, 0, carried), where
        self.ledger(where)
        assert not loans(memory), f"{where}: pages are lent"
        memory.unshare(SHARED)
        self.ledger(where)
        memory.share(SHARED)
        device.resume(DEFAULT, self.rig.rings)
        self.serve()
        assert device.carried == 2 * carried, where

    def ledger(self, where: str) -> None:
        """The kernel's view of the window, where it has one, and of who has the file mapped."""
        if self.memory.backing != "memfd":
            ledger = [self.memory.is_shared(page) for page in range(PAGES)]
            assert open_pages(self.memory) == ledger, where


def loans(memory: PrivateMemory) -> set[int]:
    """The pages of the memory's file that are mapped beside the guest's and the host's own view."""
    file = str(os.fstat(memory.file).st_ino)
    known = [memory.window.address, memory._backing.guest.address]
    found: set[int] = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, _, offset, _, inode = line.split()[:5]
        start, stop = (int(end, 16) for end in where.split("-"))
        if inode == file and not any(place <= start < place + memory.size for place in known):
            first = int(offset, 16) // PAGE_SIZE
            found.update(range(first, first + (stop - start) // PAGE_SIZE))
    return found


def everywhere(served: Callable[[], Served], strike: Callable[[BlockDevice, int], tuple[int, str]]) -> int:
    """A reset struck at each of its places once, from 1 on; how many they are. Nothing is left of it."""
    before: dict[str, int] = {}
    fatal, going = -1, True
    while going:
        fatal += 1  # 0: nothing happens, and all is loaded and warm
        one = served()
        seen, where = strike(one.device, fatal)
        one.judge(f"place {fatal}: {where}")
        one.device.close()
        one.memory.close()
        going = fatal == 0 or seen >= fatal
        gc.collect() if descriptors() != before else None
        before = before or descriptors()
        assert descriptors() == before, f"place {fatal}: {where}: a descriptor is left"
    return fatal - 1


@pytest.fixture(params=BACKINGS)
def served(request: pytest.FixtureRequest, disk: Disk) -> Callable[[], Served]:
    made(request.param).close()
    return lambda: Served(request.param, disk)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("fault", FAULTS)
def test_at_each_system_call(served: Callable[[], Served], fault: str, after: bool) -> None:
    def strike(device: BlockDevice, fatal: int) -> tuple[int, str]:
        counted = Counted(lambda made, name: FAULTS[fault]() if made == fatal else None, after)
        with suppress(Struck, OSError, Refused), every_call(counted):
            device.reset()
        return counted.made, counted.struck

    assert everywhere(served, strike) >= 3 * QUEUES  # three parts of a ring each


def test_where_a_signal_handler_may_run(served: Callable[[], Served]) -> None:
    def strike(device: BlockDevice, fatal: int) -> tuple[int, str]:
        with suppress(Struck), Signals(fatal, ROOMS) as struck:
            device.reset()
        return struck.seen, struck.where

    assert everywhere(served, strike) > 30


def test_a_queue_that_is_stopped_is_counted_once(served: Callable[[], Served]) -> None:
    def strike(device: BlockDevice, fatal: int) -> tuple[int, str]:
        with suppress(Struck), Signals(fatal, ROOMS) as struck:
            device.stop(1)
        return struck.seen, struck.where

    assert everywhere(served, strike) > 15
