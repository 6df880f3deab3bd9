"""Requests a second of the device on a real file, beside QEMU's storage daemon on the same one: `python bench/disk.py`

4 KiB of random blocks, each chain with buffers of its own, in a memory that both map; so many requests are made
available at once and all of them awaited. The device is called in this process; the daemon is rung and waited for by
eventfds, over vhost-user (io_uring, and Linux's native AIO where the file has no cache). Both without a page cache
(O_DIRECT) and with one. Medians by turns in each round; the ratio is to the quicker of the daemon's two.
"""

import contextlib
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from pagewarden.abi.virtio_blk import VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT
from pagewarden.memory import PageRange, PrivateMemory, Unavailable
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.ring import Ring
from vhost_user import FrontEnd, installed, storage_daemon
from virtio import BLOCK, FEATURES, MEMORY, SIZE, rings

BATCHES, ROUNDS, ENOUGH = (1, 8, 32, 128), 7, 0.1
FILE = 64 << 20
Serve = Callable[[int], None]
"""Make so many requests available, and wait until they are over."""


class Device:
    """The product's, called in this process."""

    def __init__(self, memory: PrivateMemory, file: Path, direct: bool, kind: int) -> None:
        self._fd = os.open(file, os.O_RDWR | (os.O_DIRECT if direct else 0))
        self._device = BlockDevice(memory.window, Disk(self._fd), queue_size=SIZE)
        self.ring, self._post = rings(memory.window, False, kind, FILE // BLOCK)
        self._device.resume(FEATURES, {0: self.ring})

    def serve(self, count: int) -> None:
        self._post(count)
        while self._device.process(0).more:
            pass

    def close(self) -> None:
        self._device.close()
        os.close(self._fd)


class Daemon:
    """QEMU's, in a process of its own."""

    def __init__(self, memory: PrivateMemory, path: Path, kind: int) -> None:
        self._front = FrontEnd(path, memory.file, memory.size, FEATURES)
        self.ring, self._post = rings(memory.window, False, kind, FILE // BLOCK)
        self._memory, self._done = memory.window.memory, 0
        self._queue = self._front.start(0, self.ring)

    def serve(self, count: int) -> None:
        ring, memory = self.ring, self._memory
        self._done = self._done + count & 0xFFFF
        struct.pack_into("<H", memory, ring.used_event, self._done - 1 & 0xFFFF)
        self._post(count)
        self._queue.kick()
        while struct.unpack_from("<H", memory, ring.used + 2)[0] != self._done:
            self._queue.wait()

    def close(self) -> None:
        self._front.stop(0)
        self._front.close()


def checked(memory: memoryview, ring: Ring, file: Path) -> None:
    """The last requests went well: the first of the ring's chains, header, data, status, read or wrote its block."""
    for k in range(BATCHES[-1]):
        (index,) = struct.unpack_from("<H", memory, ring.avail + 4 + 2 * k)
        parts = []
        for _ in range(3):
            addr, length, _, index = struct.unpack_from("<QIHH", memory, ring.desc + 16 * index)
            parts.append(memory[addr : addr + length])
        with file.open("rb") as disk:
            disk.seek(struct.unpack("<IIQ", parts[0])[2] * 512)
            assert parts[2][0] == 0 and disk.read(BLOCK) == parts[1], f"request {k} was not done"


def per_second(serve: Serve, batch: int) -> float:
    count, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < ENOUGH:
        serve(batch)
        count += batch
    return count / spent


def table(file: Path, direct: bool, kind: int) -> None:
    """A line for each batch."""
    with contextlib.ExitStack() as undo:
        memory = undo.enter_context(PrivateMemory(MEMORY, "uffd-window"))
        memory.share(PageRange(0, MEMORY // 4096))
        makers: dict[str, Callable[[], Device | Daemon]] = {"device": partial(Device, memory, file, direct, kind)}
        for aio in ("io_uring", "native") if direct else ("io_uring", "threads"):
            if installed():
                path = undo.enter_context(storage_daemon(file, direct, aio))
                makers[f"daemon, {aio}"] = partial(Daemon, memory, path, kind)
        for batch in BATCHES:
            found: dict[str, list[float]] = {name: [] for name in makers}
            for n in range(ROUNDS * len(makers)):
                name = list(makers)[n % len(makers)]
                with contextlib.closing(makers[name]()) as one:
                    one.serve(BATCHES[-1])
                    if n < len(makers):
                        checked(memory.window.memory, one.ring, file)
                    found[name].append(per_second(one.serve, batch))
            middle = {name: statistics.median(each) for name, each in found.items()}
            peers = [each for name, each in middle.items() if name != "device"]
            ratio = f"{middle['device'] / max(peers):.2f}" if peers else "-"
            what = f"{'O_DIRECT' if direct else 'page cache'}, {'write' if kind else 'read'}"
            print(f"{what:22}{batch:6}" + "".join(f"{each:18,.0f}" for each in middle.values()) + f"{ratio:>10}")


def main() -> None:
    if not installed():
        print("qemu-storage-daemon is not installed (Debian: qemu-utils): the device alone")
    with tempfile.TemporaryDirectory(prefix="pagewarden-bench-", dir=sys.argv[1] if len(sys.argv) > 1 else None) as at:
        file = Path(at) / "disk"
        file.write_bytes(np.random.default_rng(1).bytes(FILE))
        print(
            f"{'requests/s, 4 KiB':22}{'batch':>6}{'device':>18}{'daemon, io_uring':>18}{'other aio':>18}{'ratio':>10}"
        )
        for direct in (True, False):
            for kind in (VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT):
                try:
                    table(file, direct, kind)
                except (OSError, Unavailable) as missing:
                    print(f"{'O_DIRECT' if direct else 'page cache'}: left out, {missing}")


if __name__ == "__main__":
    main()
