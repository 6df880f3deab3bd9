"""The search for the guest's secret: what was not searched to its end is never said to hold none."""

import json
import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from live import require
from pagewarden.probe.paths import dump
from pagewarden.report.run import print_sight
from pagewarden.studies.run import core
from pagewarden.studies.run.canary import Canary, Sight, search_process

COMMAND = [sys.executable, "-m", "pagewarden", "run", "--backing", "uffd-window", "--requests", "4"]


def said(sight: Sight) -> str:
    out = StringIO()
    print_sight(sight, Console(file=out, width=200))
    return out.getvalue()


def limited(limit: int, size: int, *arguments: str) -> tuple[int, str]:
    def less() -> None:
        resource.setrlimit(limit, (size, size))

    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, preexec_fn=less)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def plain_cores() -> bool:
    return not Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/", "@", "\n"))


@pytest.mark.skipif(not plain_cores(), reason="cores do not go to plain files here")
@pytest.mark.parametrize("size", [1 << 20, 8192])
def test_a_core_dump_that_was_cut_short_is_no_answer(size: int) -> None:
    status, printed = limited(resource.RLIMIT_CORE, size)
    assert status == 2 and "NOT SEARCHED WHOLE" in printed and "ulimit" in printed
    assert "searched, 0 found" not in printed
    status, printed = limited(resource.RLIMIT_CORE, size, "--json")
    found = json.loads(printed)
    assert status == 2 and not found["good"] and found["sight"]["whole"] is False and found["sight"]["core_cut"]
    assert found["sight"]["leaks"] is None and found["sight"]["core_hits"] is None


def test_no_core_dump_is_said_and_none_found_in_it_is_not() -> None:
    status, printed = limited(resource.RLIMIT_CORE, 0)
    assert status == 0 and "Its core dump: not searched (no core was written" in printed
    sight = json.loads(limited(resource.RLIMIT_CORE, 0, "--json")[1])["sight"]
    assert sight["core_bytes"] is None and sight["core_hits"] is None and sight["leaks"] == 0 and sight["whole"]


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.0])
def test_a_core_is_held_against_its_headers(kept: float, tmp_path: Path) -> None:
    """Two program headers; the file ends where they say, or before."""
    path, end = tmp_path / "core", 64 + 2 * 56 + 8192
    head = bytearray(64)
    head[32:40], head[54:58] = (64).to_bytes(8, "little"), bytes([56, 0, 2, 0])
    parts = [dump.PROGRAM_HEADER.pack(dump.PT_LOAD, 4, 176 + k * 4096, k << 20, 0, 4096, 4096, 1) for k in (0, 1)]
    path.write_bytes(bytes(head) + b"".join(parts) + bytes(8192))
    os.truncate(path, int(end * kept))
    assert (core._cut(path) == "") is (kept == 1.0)
    assert kept == 1.0 or f"{int(end * kept):,}" in core._cut(path)


@contextmanager
def sleeper() -> Iterator[int]:
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
    assert child.stdout is not None and child.stdout.readline()
    try:
        yield child.pid
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("reads", [0, 1, 5])
def test_a_process_that_dies_under_the_search_is_no_answer(reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the search, and after some reads of its memory."""
    require(reads > 0 or os.geteuid() == 0, "whether a process that has ended could be read is for root to see")
    with sleeper() as pid:
        whole = search_process(Canary.random(), pid, "it")
        assert whole.whole and whole.bytes > 0 and "0 found" in said(whole)
        left, real = reads, os.preadv

        def killing(*arguments: Any) -> int:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            return real(*arguments)

        monkeypatch.setattr(os, "preadv", killing)
        if not reads:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        sight = search_process(Canary.random(), pid, "it")
    assert not sight.whole and "ended" in sight.cut
    assert "NOT SEARCHED WHOLE" in said(sight) and "0 found" not in said(sight)
    assert not search_process(Canary.random(), pid, "it").whole, "nor one that is not there at all"


def denied(*_: Any) -> bytes:
    raise PermissionError(1, "no")


@pytest.mark.parametrize("pread", [None, denied, lambda *_: b"", lambda fd, size, at: bytes(min(size, 8))])
def test_what_the_page_map_does_not_say_is_read(
    pread: Callable[..., bytes] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = Canary.random()
    with mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[500_000:500_032] = canary.whole()
        if pread is not None:
            monkeypatch.setattr(os, "pread", pread)
        sight = search_process(canary, "self", "this process")
    assert sight.leaks >= 1 and sight.whole
