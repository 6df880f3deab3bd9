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
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np

from tools import row

COUNTED = 1e-2
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
    "fio job, 4 KiB": Curve("requests", fio("--bs=4k"), TENS, (16_000_000,)),
    "fio job, mixed sizes": Curve("requests", fio("--bsrange=4k-1m"), TENS, (16_000_000,)),
    "trace": Curve("lines", trace, TENS, (10_000_000,)),
}


def point(name: str, size: int) -> None:
    """In a process of its own: x, CPU seconds, peak MB."""
    curve = CURVES[name]
    curve.make(curve.points[0])()
    work = curve.make(size)
    before = time.process_time()
    x = work() or size
    seconds = time.process_time() - before
    print(x, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


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
