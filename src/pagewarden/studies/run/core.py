"""The search for a canary in a core dump of this process."""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pagewarden.probe.paths import dump
from pagewarden.studies.run.canary import CHUNK, WORDS, Canary, Sight
from pagewarden.vocab import Unavailable

EVERYTHING_BUT_FILES = 0xB
"""/proc/PID/coredump_filter: anonymous memory, private and shared, and shared mappings of files (core(5))."""


def search_core(canary: Canary, sight: Sight) -> None:
    """Dump this process and search the file; the sight says how much, or why there is none."""
    try:
        dump.plain_core_files()
        with dump.dump_directory() as directory:
            _others_survive(directory)
            with _dumping(EVERYTHING_BUT_FILES):
                dump.crash_a_twin()
            cores = list(directory.iterdir())
            if not cores:
                raise Unavailable("no core was written", "raise the limit: ulimit -c unlimited")
            sight.core_hits, sight.core = _count(canary, cores[0])
            sight.core_cut = _cut(cores[0])
    except (Unavailable, OSError) as lacking:
        sight.core_why = str(lacking)


def _cut(core: Path) -> str:
    """Why the file is not the whole core that its program headers promise; "" where it is."""
    size = core.stat().st_size
    try:
        with core.open("rb") as file:
            promised = max((part.at + part.stored for part in dump.parts(file)), default=0)
    except EOFError:
        promised = 0
    if promised and size >= promised:
        return ""
    whole = f"{size:,} of {promised:,} bytes" if promised else f"{size:,} bytes, not even all headers,"
    return f"{whole} were written: a limit (ulimit -Hc, -Hf), or no room in TMPDIR"


def _others_survive(directory: Path) -> None:
    """Before Linux 5.16 a core dump ended every process that shared the memory: let a child find out."""
    pid = os.fork()
    if pid == 0:
        try:
            with _dumping(0):
                dump.crash_a_twin()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for core in directory.iterdir():
        core.unlink()
    if status == -signal.SIGKILL:
        raise Unavailable("a core dump of a twin would end this process too", "use a kernel since 5.16")


@contextmanager
def _dumping(what: int) -> Iterator[None]:
    """Dump these kinds of mappings; afterwards as before."""
    switch = Path("/proc/self/coredump_filter")
    before, handler = switch.read_text(), signal.getsignal(signal.SIGSEGV)
    switch.write_text(f"{what:#x}")
    try:
        yield
    finally:
        switch.write_text(f"0x{before.strip()}")
        signal.signal(signal.SIGSEGV, handler)


def _count(canary: Canary, core: Path) -> tuple[int, int]:
    """Canaries, and bytes searched: the kernel leaves out pages of zeroes, which are holes of the file."""
    found, keep, searched = 0, 0, 0
    buffer = np.empty(CHUNK, np.uint8)
    with core.open("rb", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                data = file.seek(at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole up to the end
                    break
                raise
            keep = keep if data == at else 0
            hole = file.seek(data, os.SEEK_HOLE)
            file.seek(data)
            got = file.readinto(buffer[keep : keep + min(hole - data, CHUNK - keep)].data)
            found, searched, at = found + canary.count(buffer[: keep + got]), searched + got, data + got
            last, keep = keep + got, min(8 * WORDS - 1, keep + got)
            buffer[:keep] = buffer[last - keep : last].copy()
    return found, searched
