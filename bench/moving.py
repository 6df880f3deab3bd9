"""How long a guest stands still that moves to another process, and what a memory's books take: `python bench/moving.py`

The guest is a process's memory of 1 GiB (`--size MIB` for less), all of it written, and a thread that goes on writing
10 % of its pages a second, in numpy, without a word to anybody. The destination is a process of its own, over a Unix
socket. It stands from `stop` to the destination's word that it has the VM; the peer in the same run is a plain copy of
one batch through the same kind of socket and back, which no migration goes under. `of CPU time` is the source's: where
the machine has other work, the guest stands longer. Medians of rounds.
"""

import argparse
import mmap
import socket
import statistics
import tempfile
import threading
import time
import tracemalloc
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pagewarden.keep import KeptMemory
from pagewarden.keep.moving import Departure, Tickets, receive
from pagewarden.keep.seal import BATCH
from pagewarden.memory import PAGE_SIZE, PrivateMemory
from tools import row

KEY = bytes(32)
RATE = 0.1
"""Of all pages, that are written in a second."""
TICK = 0.005
WIDTHS = 28, 14, 14, 14, 14, 14


def comes(path: str, folder: str) -> None:
    """The destination, until its guest is there."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        connection, _ = listener.accept()
        with connection:
            arrival = receive(connection, KEY, Tickets(Path(folder)), lambda size: PrivateMemory(size, "uffd-window"))
            assert arrival is not None
            arrival.memory.close()


class Writer:
    """The guest: pages all over the memory, one word in each."""

    def __init__(self, memory: PrivateMemory) -> None:
        self._words = np.frombuffer(memory._backing.guest.memory, np.uint64).reshape(-1, PAGE_SIZE // 8)
        self._end = threading.Event()
        self.pages = 0
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        rng, start, total = np.random.default_rng(3), time.perf_counter(), len(self._words)
        while not self._end.wait(TICK):
            due = int((time.perf_counter() - start) * RATE * total) - self.pages
            self._words[rng.integers(0, total, due), 0] += np.uint64(1)
            self.pages += due

    def stop(self) -> bytes:
        self._end.set()
        self._thread.join()
        return b"CPUs"


class TimedDeparture(Departure):
    """began: the CPU time of this thread when the guest was stopped; spent: that it took from there on."""

    began = spent = 0.0

    def _scrub(self) -> None:
        self.spent = time.thread_time() - self.began
        super()._scrub()


def moved(size: int) -> tuple[float, int, int, float, float]:
    """Seconds that it stood still, copies, pages that went in all, pages a second that were written meanwhile, and the
    source's CPU time while it stood."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, PrivateMemory(size, "uffd-window") as memory:
        for at in range(0, size, 64 << 20):
            memory.populate(at, np.random.default_rng(at).bytes(min(64 << 20, size - at)))
        path = f"{folder}/socket"
        other = get_context("spawn").Process(target=comes, args=[path, folder])
        other.start()
        with socket.socket(socket.AF_UNIX) as wire:
            while wire.connect_ex(path):
                time.sleep(0.01)
            writer, start = Writer(memory), time.perf_counter()
            departure = TimedDeparture(memory, KEY, patience=120)

            def stop() -> bytes:
                departure.began = time.thread_time()
                return writer.stop()

            try:
                departure.send(wire, stop, lambda: None)
            finally:
                spent = time.perf_counter() - start
                writer.stop()
                other.join()
        return departure.downtime, departure.rounds, departure.pages, writer.pages / spent, departure.spent


def plain_copy(size: int) -> float:
    """Seconds for so many bytes through a Unix socket, and one byte back."""
    near, far = socket.socketpair()
    data, target = mmap.mmap(-1, size), mmap.mmap(-1, size)

    def takes() -> None:
        at = 0
        while at < size:
            at += far.recv_into(memoryview(target)[at:])
        far.send(b"!")

    thread = threading.Thread(target=takes)
    thread.start()
    start = time.perf_counter()
    near.sendall(data)
    near.recv(1)
    spent = time.perf_counter() - start
    thread.join()
    near.close()
    far.close()
    return spent


def books(size: int) -> float:
    """Bytes a page that a memory with a swap file allocates for its books (tracemalloc), as it is made."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        tracemalloc.start()
        with KeptMemory(size, limit=1 << 30, swap=f"{folder}/swap"):
            held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return held / (size // PAGE_SIZE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024, metavar="MIB")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    size = asked.size << 20
    row(
        f"{asked.size} MiB, {RATE:.0%} a second",
        "stands ms",
        "of CPU time",
        "plain copy ms",
        "copies",
        "of all went",
        widths=WIDTHS,
    )
    found = [moved(size) for _ in range(asked.rounds)]
    downtime = statistics.median(each[0] for each in found)
    copies, pages, rate, busy = (statistics.median(each[k] for each in found) for k in (1, 2, 3, 4))
    plain = statistics.median(plain_copy(BATCH * PAGE_SIZE) for _ in range(asked.rounds))
    row(
        "to another process",
        downtime * 1e3,
        busy * 1e3,
        plain * 1e3,
        copies,
        f"{pages / (size // PAGE_SIZE):.0%}",
        widths=WIDTHS,
    )
    print(f"({rate:,.0f} pages a second were written; the plain copy is of {BATCH} pages, by the same kind of socket)")
    row("books", "bytes a page")
    for wanted, name in ((1 << 30, "1 GiB"), (1 << 40, "1 TiB")):
        row(name, books(wanted))


if __name__ == "__main__":
    main()
