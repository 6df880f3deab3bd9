"""What must not grow: a page of a scattered unshare, a page of a large memory, a byte of a long read; and what a host
side costs that is not trusted. `python bench/memory_sizes.py`
"""

import contextlib
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.memory.isolated.side import nothing
from thread_time import ROUNDS, Timed, table, timed

MANY = 64


def growth() -> None:
    pages = 8192
    with PrivateMemory(pages * PAGE_SIZE, "uffd-window") as mem:
        mem.populate(0, bytes(mem.size))
        every, scattered = PageRange(0, pages), np.array([(2 * k, 2 * k + 1) for k in range(pages // 2)], np.int64)

        def unshared(action: Callable[[], object]) -> Callable[[], float]:
            def run() -> float:
                mem.convert(scattered)
                return timed(action, 1)() / len(scattered)

            return run

        def one_by_one() -> None:
            for first, stop in scattered.tolist():
                mem.unshare(PageRange(first, stop))

        table(
            f"unshare of {pages // 2} scattered pages, a page",
            {"one call": unshared(lambda: mem.unshare(every)), "one by one": unshared(one_by_one)},
            "one call",
        )

        def scaled(run: Callable[[], float], size: int) -> float:
            return run() * (256 << 10) / size

        mem.share(every)
        longest = bytearray(16 << 20)
        table(
            "a long read, each 256 KiB of it",
            {
                f"{word} {size >> 10} KiB": partial(scaled, timed(partial(action, size), 20), size)
                for size in (256 << 10, 1 << 20, 16 << 20)
                for word, action in (
                    ("read_into", lambda size: mem.window.read_into(0, memoryview(longest)[:size])),
                    ("read", lambda size: mem.window.read(0, size)),
                )
            },
            "read_into 256 KiB",
        )
    with contextlib.ExitStack() as undo:
        cases: Timed = {}
        for size in (4 << 20, 1 << 30, 64 << 30):
            mem = undo.enter_context(PrivateMemory(size, "uffd-window"))
            mem.populate(0, b"there")
            first = [PageRange(0, 1)]

            def both(mem: PrivateMemory = mem, first: list[PageRange] = first) -> None:
                mem.convert(first)
                mem.convert((), first)

            cases[f"of {size >> 20:,} MiB"] = timed(both, 300)
        table("convert() of one page, there and back", cases, "of 4 MiB")


def replacement() -> None:
    with PrivateMemory(1 << 20, isolated=True) as mem:
        mem.populate(0, bytes(mem.size))

        def both(pages: PageRange) -> None:
            mem.share(pages)
            mem.unshare(pages)

        table(
            "share + unshare with an untrusted host: unshare replaces the page",
            {
                "1 page": timed(lambda: both(PageRange(0, 1)), 300),
                f"{MANY} pages": timed(lambda: both(PageRange(0, MANY)), 50),
            },
            "1 page",
        )


def starts() -> None:
    """A host side from the zygote that is there, until its function has run: milliseconds, median and most."""
    taken: list[list[float]] = [[], []]
    with PrivateMemory(1 << 20, isolated=True) as mem:
        mem.spawn(nothing).wait(60.0)  # the first of the process starts the zygote
        for _ in range(ROUNDS):
            with PrivateMemory(1 << 20, isolated=True) as other:
                for memory, times in zip((mem, other), taken, strict=True):
                    begin = time.perf_counter()
                    host = memory.spawn(nothing)
                    host.receive(60.0)
                    times.append((time.perf_counter() - begin) * 1e3)
                    host.wait(60.0)
    same, first = (statistics.median(times) for times in taken)
    print(f"\nhost side from the zygote: {same:.1f} ms, at most {max(taken[0]):.1f}; of a fresh memory {first:.1f} ms")


if __name__ == "__main__":
    growth()
    replacement()
    starts()
