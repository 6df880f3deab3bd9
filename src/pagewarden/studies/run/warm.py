"""Compiled code, loaded before anybody looks at the clock, or gives up the right to read files."""

from pagewarden.abi import virtio_blk
from pagewarden.kernel.door import memfd
from pagewarden.memory import PAGE_SIZE, PrivateMemory
from pagewarden.studies.run.host import FEATURES
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.driver import Driver
from pagewarden.virtio.ring import Ring

_RING, _HEADER, _DATA, _STATUS = 0, 2 * PAGE_SIZE, 3 * PAGE_SIZE, 4 * PAGE_SIZE


def warm() -> None:
    """A block device serves a write and a read in a small memory of its own."""
    ring = Ring.placed(8, _RING)
    with memfd("pagewarden-warm", PAGE_SIZE) as disk, PrivateMemory(5 * PAGE_SIZE, "memfd", shared=True) as memory:
        driver = Driver(memory.window, ring)
        device = BlockDevice(memory.window, Disk(disk.fd), 1, ring.size)
        device.resume(FEATURES, {0: ring})
        for kind in (virtio_blk.VIRTIO_BLK_T_OUT, virtio_blk.VIRTIO_BLK_T_IN):
            memory.window.write(_HEADER, kind.to_bytes(16, "little"))
            data = [(_DATA, PAGE_SIZE)]
            out, into = (data, []) if kind == virtio_blk.VIRTIO_BLK_T_OUT else ([], data)
            driver.add_chain([(_HEADER, 16), *out], [*into, (_STATUS, 1)])
            driver.publish()
            device.process(0)
            driver.reap()
        device.close()
