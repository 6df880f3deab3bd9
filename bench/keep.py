"""What pages cost that go and come sealed, and what a fault waits. `python bench/keep.py`

Going and coming in batches is held against AES-GCM's own speed (one call a page, from Python as well) plus one copy of
the bytes, turn by turn, in CPU time; `calls alone` is the part of it that the system calls take, which write, read, map
and give back the same pages unsealed. A fault is held against the shortest server that Python can be, which puts plain
bytes in place. The swap file lies in /dev/shm, so that no disk is measured. Medians of rounds within one run.
"""

import ctypes
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pagewarden.abi import uffd
from pagewarden.keep import KeptMemory
from pagewarden.keep.seal import BATCH, SLOT
from pagewarden.kernel.door import copy, memfd, punch_hole, readable
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory import PAGE_SIZE, PageRange
from tools import row

PAGES = 4096
TOUCHED = 2000
ROUNDS = 7
ALL = PageRange(0, PAGES)


def floor() -> tuple[float, float]:
    """Seconds to seal all pages, and to unseal them, with a copy of the bytes each."""
    aead, nonce, data = AESGCM(bytes(32)), bytes(12), bytes(32)
    plain, other = np.random.default_rng(1).integers(0, 255, (2, PAGES * PAGE_SIZE), np.uint8)
    sealed = memoryview(bytearray(PAGES * SLOT))
    source, target = memoryview(plain), memoryview(other)

    def out() -> None:
        for k in range(PAGES):
            aead.encrypt_into(
                nonce, source[k * PAGE_SIZE : (k + 1) * PAGE_SIZE], data, sealed[k * SLOT : (k + 1) * SLOT]
            )
        other[:] = plain

    def back() -> None:
        for k in range(PAGES):
            aead.decrypt_into(
                nonce, sealed[k * SLOT : (k + 1) * SLOT], data, target[k * PAGE_SIZE : (k + 1) * PAGE_SIZE]
            )
        plain[:] = other

    return spent(out), spent(back)


def calls_alone(folder: str) -> tuple[float, float]:
    """Seconds that the system calls of both ways take by themselves, in the same batches."""
    size = BATCH * PAGE_SIZE
    data, file = np.ones(size, np.uint8), memfd("bench", PAGES * PAGE_SIZE)
    region, fault = Region(PAGES * PAGE_SIZE), Userfault(uffd.UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
    region.place(file.fd)
    fault.register(region.address, region.size, uffd.UFFDIO_REGISTER_MODE_MISSING | uffd.UFFDIO_REGISTER_MODE_WP)

    def back() -> None:
        for at in range(0, region.size, size):
            os.preadv(disk.fileno(), [data.data], at)
            fault.copy(region.address + at, data.ctypes.data, size)

    def out() -> None:
        for at in range(0, region.size, size):
            fault.write_protect(region.address + at, size)
            os.pwrite(disk.fileno(), data.data, at)
            punch_hole(file.fd, at, size)
            fault.write_protect(region.address + at, size, on=False)

    with open(f"{folder}/calls", "wb+") as disk:
        disk.write(bytes(region.size))
        came = spent(back)
        found = spent(out), came
    fault.close()
    region.close()
    file.close()
    return found


def batches(folder: str) -> tuple[float, float]:
    """The same for a kept memory: seconds out, and back; the first time makes the file."""
    with KeptMemory(PAGES * PAGE_SIZE, swap=f"{folder}/swap") as memory:
        memory.populate(0, os.urandom(PAGES * PAGE_SIZE))
        memory.swap_out(ALL)
        memory.prefetch(ALL)
        return spent(lambda: memory.swap_out(ALL)), spent(lambda: memory.prefetch(ALL))


def spent(act: Callable[[], object]) -> float:
    """Seconds of this thread's CPU time."""
    start = time.thread_time()
    act()
    return time.thread_time() - start


def touches(address: int, step: int = 1) -> list[float]:
    """Microseconds of each touch, from a thread that does not have the interpreter's lock meanwhile."""
    buffer = ctypes.create_string_buffer(8)
    waits = []
    for page in range(0, TOUCHED * step, step):
        start = time.perf_counter()
        copy(ctypes.addressof(buffer), address + page % PAGES * PAGE_SIZE, 8)
        waits.append((time.perf_counter() - start) * 1e6)
    return waits


def kept_faults(folder: str, ahead: int) -> list[float]:
    with KeptMemory(PAGES * PAGE_SIZE, swap=f"{folder}/swap", ahead=ahead) as memory:
        memory.populate(0, os.urandom(PAGES * PAGE_SIZE))
        memory.swap_out(ALL)
        return touches(memory.guest_address)


def plain_server() -> list[float]:
    """The shortest: wait, read, copy, in a thread."""
    fault, region = Userfault(0), Region(PAGES * PAGE_SIZE)
    region.fill()
    fault.register(region.address, region.size, uffd.UFFDIO_REGISTER_MODE_MISSING)
    source = np.frombuffer(os.urandom(PAGES * PAGE_SIZE), np.uint8)
    data = source.ctypes.data
    left = [TOUCHED]

    def serve() -> None:
        while left[0]:
            readable([fault.fd], None)
            for _, _, address, _ in fault.messages():
                address &= -PAGE_SIZE
                fault.copy(address, data + address - region.address, PAGE_SIZE)
                left[0] -= 1

    thread = threading.Thread(target=serve)
    thread.start()
    waits = touches(region.address)
    thread.join()
    fault.close()
    region.close()
    return waits


def p50(run: Callable[[], list[float]]) -> float:
    return statistics.median(statistics.median(run()) for _ in range(3))


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        size = PAGES * PAGE_SIZE / (1 << 30)
        row("in batches, CPU time", "GiB/s", "AES + copy", "of that", "calls alone")
        rounds = np.array([(batches(folder), floor(), calls_alone(folder)) for _ in range(ROUNDS)])
        for name, (own, best, calls) in zip(("out", "back"), np.median(rounds, 0).T, strict=True):
            row(name, size / own, size / best, f"{best / own:.0%}", f"{calls / own:.0%}")
        row("a fault", "p50 us", "plain server", "ratio")
        plain = p50(plain_server)
        single = p50(lambda: kept_faults(folder, 1))
        row("one page", single, plain, single / plain)
        many = statistics.median(statistics.mean(kept_faults(folder, 16)) for _ in range(3))
        row("mean, 16 at a fault", many, plain, many / plain)


if __name__ == "__main__":
    main()
