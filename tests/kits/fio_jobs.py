"""Job files of tests, and the fio that is installed."""

import shutil
from pathlib import Path

import numpy as np

from pagewarden.workload import Workload, load

FIO = shutil.which("fio")


def job(folder: Path, *lines: str, head: str = "[j]") -> Workload:
    path = folder / "job.fio"
    path.write_text("\n".join([head, *lines]) + "\n")
    return load(path)


def same(a: Workload, b: Workload) -> bool:
    return all(np.array_equal(getattr(a, c), getattr(b, c)) for c in ("write", "offset", "length"))
