"""A guest's random I/O through the device, against programs without a guest. `python bench/run.py`

Requests a second of 4 KiB and 64 KiB reads and writes on one file, all of it in the page cache, 32 requests a doorbell.
The guest fills, hashes and checks every byte as well, so a second row counts the time in the device alone. Beside it
fio (psync, one request at a time: no guest, no ring) and QEMU's block layer (qemu-img bench), where they are installed;
of qemu-storage-daemon there is no client here. Medians of three, by turns in each round; in brackets the ratio to fio.
"""

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pagewarden.kernel.kvm import Kvm
from pagewarden.studies.run.disk import open_disk
from pagewarden.studies.run.machine import Meter
from pagewarden.studies.run.one import run
from pagewarden.studies.run.plan import RunPlan
from pagewarden.vocab import Unavailable
from pagewarden.workload import Workload

ROUNDS, REQUESTS, FILE = 3, 512, 16 << 20
BATCH = 32
FIO_REQUESTS = 20_000
"""It counts milliseconds."""


class Clock(Meter):
    """A meter that times the device's part of a run (machine.Meter)."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def device(self, notify: Callable[[int], None]) -> Callable[[int], None]:
        def timed(queue: int) -> None:
            start = time.perf_counter()
            notify(queue)
            self.seconds += time.perf_counter() - start

        return timed


def workload(size: int, write: bool) -> Workload:
    places = np.random.default_rng(1).integers(0, FILE // size, REQUESTS) * size
    return Workload(
        name="random",
        format="drawn",
        write=np.full(REQUESTS, write),
        offset=places.astype(np.uint64),
        length=np.full(REQUESTS, size, np.uint32),
        depth=BATCH,
    )


def guest(cpu: str, design: str, file: Path, size: int, write: bool) -> tuple[float, float]:
    """Requests/s of the whole run, and of the device's part."""
    requests, clock = workload(size, write), Clock()
    with open_disk(requests, file, True) as disk:
        found = run(RunPlan(design, "uffd-window", cpu, batch=BATCH), requests, disk, False, clock)
    assert found.good
    return found.per_second, REQUESTS / clock.seconds


def fio(file: Path, size: int, write: bool) -> float:
    done = subprocess.run(
        ["fio", "--name=b", f"--filename={file}", f"--rw={'randwrite' if write else 'randread'}", f"--bs={size}",
         "--ioengine=psync", f"--size={FILE}", f"--number_ios={FIO_REQUESTS}", "--invalidate=0", "--output-format=json",
         "--norandommap"], check=True, capture_output=True, text=True)  # fmt: skip
    job = json.loads(done.stdout)["jobs"][0]["write" if write else "read"]
    return float(job["iops"])


def qemu(file: Path, size: int, write: bool) -> float:
    arguments = ["-f", "raw", "-t", "writeback", "-c", str(FIO_REQUESTS), "-d", str(BATCH), "-s", str(size)]
    done = subprocess.run(
        ["qemu-img", "bench", *arguments, *(["-w", "--pattern=7"] if write else []), str(file)],
        check=True,
        capture_output=True,
        text=True,
    )
    return FIO_REQUESTS / float(done.stdout.split("Run completed in ")[1].split()[0])


def cpus() -> list[str]:
    try:
        Kvm().close()
    except Unavailable as missing:
        print(f"kvm: left out, {missing}")
        return ["unicorn"]
    return ["unicorn", "kvm"]


def others() -> dict[str, Callable[[Path, int, bool], float]]:
    """The programs to compare with that are installed."""
    known: dict[str, tuple[str, Callable[[Path, int, bool], float]]] = {
        "fio psync": ("fio", fio),
        "qemu-img bench": ("qemu-img", qemu),
    }
    for name, (program, _) in known.items():
        if shutil.which(program) is None:
            print(f"{name}: left out, {program} is not installed")
    return {name: measure for name, (program, measure) in known.items() if shutil.which(program)}


def measure(file: Path, size: int, write: bool) -> dict[str, float]:
    """One round: requests/s by who made them."""
    found: dict[str, float] = {name: run_it(file, size, write) for name, run_it in others_found.items()}
    for cpu in cpus_found:
        for design in ("dma-buffer", "window"):
            whole, device = guest(cpu, design, file, size, write)
            found[f"{design}, {cpu}, guest and all"], found[f"{design}, {cpu}, device alone"] = whole, device
    return found


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pagewarden-bench-") as place:
        file = Path(place) / "disk"
        file.write_bytes(np.random.default_rng(1).bytes(FILE))
        kinds = [(size, write) for size in (4 << 10, 64 << 10) for write in (False, True)]
        medians: list[dict[str, float]] = []
        for size, write in kinds:
            rounds = [measure(file, size, write) for _ in range(ROUNDS)]
            medians.append({name: statistics.median(found[name] for found in rounds) for name in rounds[0]})
        titles = [f"{size >> 10} KiB {'write' if write else 'read'}" for size, write in kinds]
        print(f"{'requests/s (ratio to fio psync)':38}" + "".join(f"{title:>22}" for title in titles))
        for name in medians[0]:
            cells = [
                f"{column[name]:,.0f}"
                + (f" ({column[name] / column['fio psync']:.3f})" if "fio psync" in column else "")
                for column in medians
            ]
            print(f"{name:38}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    cpus_found, others_found = cpus(), others()
    main()
