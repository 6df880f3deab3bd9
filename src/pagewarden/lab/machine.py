"""A machine under QEMU: watched by its console, gone with whoever started it."""

import io
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os import killpg
from pathlib import Path

from pagewarden.abi.memory import PR_SET_PDEATHSIG
from pagewarden.kernel.door import prctl
from pagewarden.vocab import Advance, Unavailable

CONSOLE = "console"
"""The file that the first serial port writes to."""
HOW_FAR = re.compile(rb"pagewarden: (\d+) of (\d+)\r?\n")
"""What a guest says of its work, on the console."""
LAST_LINES, ENOUGH = 15, 1 << 16
"""Lines of a log that are told; bytes of its end that are looked at."""
PATIENCE = 10.0
"""Seconds that killed processes have to go."""
LOOK = 0.5
"""Seconds between two looks at the console."""


def watch(command: Sequence[str], place: Path, name: str, seconds: float, progress: Advance | None = None) -> None:
    """Run a QEMU whose console is a file in that directory until it ends by itself. Unavailable, with the console's
    last lines, when it takes longer than that; it is killed then, and at any exception."""
    end = time.monotonic() + seconds
    with (place / "qemu.log").open("wb") as log, process(command, log) as vm:
        while vm.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                vm.wait(max(0.0, min(LOOK, end - time.monotonic())))
                break
            if time.monotonic() >= end:
                raise Unavailable(f"{name}: not done in {seconds:g} s{last_lines(place)}", "allow more time")
            if progress is not None and (said := HOW_FAR.findall(end_of(place / CONSOLE))):
                progress(*map(int, said[-1]))
        if vm.returncode < 0:
            raise Unavailable(f"QEMU was killed: {signal.Signals(-vm.returncode).name}", "is memory short?")


@contextmanager
def process(command: Sequence[str], output: io.BufferedWriter) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed, with all that it started, at the end of this block and with this process; Ctrl-C waits
    until it has this owner."""
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def begins() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, preexec_fn=begins
        )
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, usual)
            yield started
        finally:
            with suppress(ProcessLookupError):
                killpg(started.pid, signal.SIGKILL)
            started.wait()
            _gone(started.pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)


def _gone(group: int) -> None:
    """Wait for the others of a killed group, which may still write; not for ever, for who reaps them is not known."""
    end = time.monotonic() + PATIENCE
    with suppress(ProcessLookupError):
        while time.monotonic() < end:
            killpg(group, 0)
            time.sleep(0.01)


def last_lines(place: Path) -> str:
    """What the console said last, for a message; what QEMU said where the console is silent."""
    return ":\n" + (tail(place / CONSOLE) or tail(place / "qemu.log"))


def tail(path: Path) -> str:
    """The last lines of a log, without the control characters of a terminal."""
    lines = end_of(path).decode(errors="replace").splitlines()
    lines = ["".join(letter for letter in line if letter.isprintable()) for line in lines]
    return "\n".join([line for line in lines if line.strip()][-LAST_LINES:])


def end_of(path: Path) -> bytes:
    """The end of a file that may grow; nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - ENOUGH))
            return file.read(ENOUGH)
    except FileNotFoundError:
        return b""
