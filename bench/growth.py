"""How cost grows with the work: CPU seconds and peak memory along curves. `python bench/growth.py [--full] [CURVE...]`

Each point is a process of its own, so that its peak is its own; it does the smallest point of its curve first, which
loads what is compiled, and is not counted. The exponent is that between a point and the one before (seconds grow as
x^exponent); what is asked of the program is at most 1.1 from 10^4 upward. Below a hundredth of a second there
is none.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np

from tools import row

COUNTED = 5e-3
"""Seconds from which on an exponent says something."""
Work = Callable[[], float | None]
"""What is timed. It returns x where only the work itself can tell."""


@dataclass(frozen=True)
class Curve:
    """x: what it is drawn over; make: the work of a point; points: what `make bench` shows, more: with --full."""

    x: str
    make: Callable[[int], Work]
    points: tuple[int, ...]
    more: tuple[int, ...] = ()


def compare(length: Callable[[int], np.ndarray], batch: bool = True) -> Callable[[int], Work]:
    """Every design under the default policy on so many requests."""

    def made(requests: int) -> Work:
        from pagewarden.workload import Workload

        lengths = length(requests)
        write = np.random.default_rng(1).random(len(lengths)) < 0.5
        return compared(Workload("grown", "generated", write, np.zeros(len(lengths), np.uint64), lengths), batch)

    return made


def compared(load: object, batch: bool = True) -> Work:
    from pagewarden.cost import load_profile
    from pagewarden.designs import DESIGNS, Options
    from pagewarden.law import POLICIES
    from pagewarden.studies.compare.comparison import Setup, simulate

    setup = Setup(POLICIES["hybrid"], load_profile("vmx-skylake"), Options(batch=batch))

    def run() -> None:
        for design in DESIGNS.values():
            simulate(setup, load, design)  # type: ignore[arg-type]

    return run


def fixed(requests: int) -> np.ndarray:
    return np.full(requests, 4096, np.uint32)


def mixed(requests: int) -> np.ndarray:
    """4 KiB to 1 MiB, uniform in the logarithm."""
    return np.exp2(np.random.default_rng(1).uniform(0, 8, requests)).astype(np.uint32) * np.uint32(4096)


def one_request(size: int) -> Work:
    from pagewarden.workload import single

    return compared(single(size))


def together(pages: int) -> Work:
    """All pages of a family of systems at once; x is its states."""
    from pagewarden.check.page.system import Setting
    from pagewarden.check.verdict import check
    from pagewarden.designs import DESIGNS
    from pagewarden.law import POLICIES

    setting = Setting(POLICIES["pkvm-2022"], DESIGNS["window"], pages, 1, ("strace", "touch"))
    return lambda: check(setting, search="together").states


def apart(vcpus: int) -> Work:
    """One page with all who act on it; x is its states."""
    from pagewarden.check.page.system import Setting
    from pagewarden.check.verdict import check
    from pagewarden.law import POLICIES

    return lambda: check(Setting(POLICIES["uffd-window"], vcpus=vcpus), search="apart").states


def conversions(scattered: bool) -> Callable[[int], Work]:
    """Share so many pages of a live memory, and take them back."""

    def made(pages: int) -> Work:
        from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory

        memory = PrivateMemory((2 if scattered else 1) * pages * PAGE_SIZE)
        ranges = [PageRange(2 * page, 2 * page + 1) for page in range(pages)] if scattered else [PageRange(0, pages)]

        def run() -> None:
            memory.convert(to_shared=ranges)
            memory.convert(to_private=ranges)

        return run

    return made


def one_by_one(calls: int) -> Work:
    """So many pages shared, each by a call, and each taken back by one."""
    from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory

    memory = PrivateMemory(2 * calls * PAGE_SIZE)
    memory.convert(to_shared=[PageRange(0, 2 * calls)])  # nothing is allocated any more, and compiled code is loaded
    memory.unshare(PageRange(0, 2 * calls))

    def run() -> None:
        for verb in (memory.share, memory.unshare):
            for page in range(calls):
                verb(PageRange(2 * page, 2 * page + 1))

    return run


def taken_back(pages: int) -> Work:
    """So many scattered pages taken back by one call for all between them."""
    from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory

    memory = PrivateMemory(2 * pages * PAGE_SIZE)
    memory.convert(to_shared=np.arange(2 * pages, dtype=np.int64).reshape(-1, 2))
    return lambda: memory.unshare(PageRange(0, 2 * pages))


def one_of(pages: int) -> Work:
    """One page of a memory of so many goes there and back, a thousand times by convert()."""
    from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory

    memory, one = PrivateMemory(pages * PAGE_SIZE), [PageRange(0, 1)]

    def run() -> None:
        for _ in range(1000):
            memory.convert(to_shared=one)
            memory.convert(to_private=one)

    return run


def long_read(size: int) -> Work:
    """So many bytes out of the window, by one call."""
    from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory

    memory = PrivateMemory(size)
    memory.populate(0, b"there" * (size // 5))
    memory.share(PageRange(0, size // PAGE_SIZE))

    def run() -> None:
        memory.window.read(0, size)

    return run


def host_sides(memories: bool) -> Callable[[int], Work]:
    """So many untrusted host sides, one after the other: of one memory, or each of its own."""

    def made(sides: int) -> Work:
        from pagewarden.memory import PrivateMemory
        from pagewarden.memory.isolated.side import nothing

        def run() -> None:
            kept = [PrivateMemory(1 << 20, isolated=True) for _ in range(sides if memories else 1)]
            for side in range(sides):
                host = kept[side if memories else 0].spawn(nothing)
                host.receive(60.0)
                host.wait(60.0)
            for memory in kept:
                memory.close()

        return run

    return made


def scattered_map(pages: int) -> Work:
    """In the model: so many pages of a tebibyte shared one by one and taken back one by one, then all of it once."""
    from pagemap import PAGES, SHARE, UNSHARE, machine
    from pagewarden.law import Op
    from pagewarden.vocab import PageRange

    made, zeroes = machine(), np.zeros(2 * pages, np.int64)
    firsts = np.arange(pages, dtype=np.int64) * (PAGES // pages)
    which = np.repeat(np.array([1, 0]), pages)

    def run() -> None:
        done = made.run([UNSHARE, SHARE], which, np.tile(firsts, 2), zeroes + 1, zeroes)
        assert done.failed == 0
        made.apply(Op.GUEST_LOAD, PageRange(0, PAGES))

    return run


def minimal(vcpus: int) -> Work:
    """The smallest sets of mechanisms for one property; x is how many sets were tried."""
    from pagewarden.check.many import Workers
    from pagewarden.check.minimal import minimal_sets
    from pagewarden.check.page.system import Setting
    from pagewarden.law import POLICIES

    setting = Setting(POLICIES["guest-memfd-inplace"], vcpus=vcpus)
    here = Workers(1, lambda function, tasks: list(map(function, tasks)))

    tried: list[float] = [0]

    def run() -> float:
        minimal_sets(setting, ("host-never-reads-private",), here, progress=lambda done, left: tried.append(done))
        return tried[-1]

    return run


def fio(sizes: str) -> Callable[[int], Work]:
    """Draw the requests of a job."""

    def made(requests: int) -> Work:
        from pagewarden.workload.load import of_fio

        job = ["--name=grown", "--rw=randrw", sizes, f"--number_ios={requests}", "--size=1t", "--norandommap"]
        return lambda: of_fio(job).requests

    return made


def trace(lines: int) -> Work:
    """Read an iolog of so many lines."""
    from pagewarden.workload.load import load

    file = Path(tempfile.mkdtemp()) / "grown.iolog"
    with file.open("w") as out:
        out.write("fio version 2 iolog\n/d add\n/d open\n")
        out.writelines(f"/d {'write' if n & 1 else 'read'} {n << 12} 4096\n" for n in range(lines))

    def run() -> None:
        load(file)
        file.unlink()

    return run


TENS = (100, 1_000, 10_000, 100_000, 1_000_000)
CURVES = {
    "compare, 4 KiB": Curve("requests", compare(fixed), TENS, (10_000_000,)),
    "compare, mixed sizes": Curve("requests", compare(mixed), TENS, (10_000_000,)),
    "compare, mixed, batch=false": Curve("requests", compare(mixed, batch=False), TENS, (10_000_000,)),
    "compare, one request": Curve("bytes", one_request, tuple(1 << n for n in (12, 18, 24, 28)), (1 << 30, 1 << 32)),
    "check together": Curve("states", together, (1, 2, 3), (4,)),
    "check one page": Curve("states", apart, (1, 2), (3,)),
    "convert, contiguous": Curve("pages", conversions(False), (100, 1_000, 10_000, 100_000), (1_000_000,)),
    "convert, scattered": Curve("pages", conversions(True), (100, 1_000, 10_000), (30_000,)),
    "share, unshare, each a call": Curve("pages", one_by_one, (100, 1_000, 10_000, 100_000), (1_000_000,)),
    "unshare, scattered, one call": Curve("pages", taken_back, (1_000, 10_000, 100_000), (1_000_000,)),
    "convert(), one page of": Curve("pages", one_of, (1 << 10, 1 << 17, 1 << 24), (1 << 26,)),
    "window.read": Curve("bytes", long_read, tuple(1 << n for n in (16, 20, 24, 28)), (1 << 30,)),
    "host sides, one memory": Curve("sides", host_sides(False), (1, 10, 100)),
    "host sides, a memory each": Curve("sides", host_sides(True), (1, 10, 100)),
    "model, scattered and back": Curve("pages", scattered_map, TENS[1:]),
    "check --minimal": Curve("sets tried", minimal, (1, 2)),
    "fio job, 4 KiB": Curve("requests", fio("--bs=4k"), TENS, (16_000_000,)),
    "fio job, mixed sizes": Curve("requests", fio("--bsrange=4k-1m"), TENS, (16_000_000,)),
    "trace": Curve("lines", trace, TENS, (10_000_000,)),
}


def point(name: str, size: int) -> None:
    """In a process of its own: x, CPU seconds, peak MB."""
    curve = CURVES[name]
    curve.make(curve.points[0])()
    work = curve.make(size)
    before = spent()
    x = work() or size
    seconds = spent() - before
    print(x, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def spent() -> float:
    """CPU seconds of this process and of those it started and awaited."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def show(name: str, full: bool) -> None:
    curve = CURVES[name]
    row(name, curve.x, "CPU s", "peak MB", "exponent")
    last: tuple[float, float] | None = None
    for size in (*curve.points, *(curve.more if full else ())):
        ended = subprocess.run([sys.executable, __file__, "--point", name, str(size)], capture_output=True, text=True)
        if ended.returncode:
            row("", size, (ended.stderr.strip().splitlines() or [f"status {ended.returncode}"])[-1])
            continue
        x, seconds, peak = map(float, ended.stdout.split())
        known = last is not None and min(seconds, last[1]) >= COUNTED and x > last[0]
        row("", f"{x:,.0f}", seconds, peak, log(seconds / last[1]) / log(x / last[0]) if known and last else "-")
        last = x, seconds


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--point"]:
        point(arguments[1], int(arguments[2]))
        return
    for name in [each for each in arguments if each != "--full"] or CURVES:
        show(name, "--full" in arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
