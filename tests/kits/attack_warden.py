"""The warden of every attack: it keeps random secrets in private pages, lets a hostile host side loose, and says what
came of it. Nothing must:

leaked: bytes of secrets in what the host side sent, said or wrote. intact: the memory is as the warden left it.
went: what the host side itself says that it could do. left: is anything of it left.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.memory.isolated import process
from pagewarden.memory.isolated.messages import MessageKind
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.window import IsolatedWindow
from waits import SOON

PAGES = 8
PIECE = 16
"""Bytes of a secret that are searched for: random, so that none turns up by chance."""
Verdict = dict[str, Any]


class Warden:
    """A memory whose first page is shared and whose others hold secrets, and all that was heard."""

    def __init__(self, level: Literal[True, "best-effort"] = True) -> None:
        self.memory = PrivateMemory(PAGES * PAGE_SIZE, isolated=level)
        self.secrets = [os.urandom(PIECE) for _ in range(PAGES - 1)]
        self.memory.private_write(PAGE_SIZE, b"".join(secret * (PAGE_SIZE // PIECE) for secret in self.secrets))
        self.memory.share(PageRange(0, 1))
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.heard: list[bytes] = []
        self.host: HostProcess | None = None

    def spawn(self, function: Callable[..., object], *arguments: Any, patience: float = SOON) -> HostProcess:
        """Let it run on the memory."""
        self.host = self.memory.spawn(function, *arguments, fds=(self.file.fileno(),), patience=patience)
        return self.host

    def hear(self, timeout: float = SOON) -> int:
        """The next report's value; -1 at its end."""
        assert self.host is not None
        message = self.host.receive(timeout)
        if message is None:
            return -1
        self.heard.append(message.data)
        if message.kind is MessageKind.DONE:
            return -2
        return message.value

    def leaked(self) -> int:
        """Bytes of secrets in all that came out of the host side."""
        out = b"".join(self.heard) + b"".join(self._written())
        if self.host is not None:
            out += self.host.words.encode(errors="surrogateescape")
        return sum(out.count(secret) for secret in self.secrets) * PIECE

    def _written(self) -> Iterator[bytes]:
        """What is in the file, wherever that is."""
        end = 0
        with suppress(OSError):  # ENXIO: no more
            while True:
                start = os.lseek(self.file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(self.file.fileno(), start, os.SEEK_HOLE)
                yield os.pread(self.file.fileno(), end - start, start)

    def intact(self) -> bool:
        expected = b"".join(secret * (PAGE_SIZE // PIECE) for secret in self.secrets)
        return self.memory.private_read(PAGE_SIZE, len(expected)) == expected and list(self.memory.shared_runs()) == [
            PageRange(0, 1)
        ]

    def verdict(self, **found: Any) -> dict[str, Any]:
        """End everything, then say what was found."""
        pid = self.host.pid if self.host is not None else -1
        intact = self.intact()
        self.memory.close()
        left = pid > 0 and _runs(pid)
        return {"leaked": self.leaked(), "intact": intact, "left": left, "undead": len(process._undead), **found}


def isolated(warden: Warden) -> IsolatedWindow:
    backing = warden.memory._backing
    assert isinstance(backing, IsolatedWindow)
    return backing


def words(warden: Warden) -> str:
    return warden.heard[-1].decode(errors="replace") if warden.heard else ""


def reports(function: Callable[..., object], *arguments: Any) -> dict[str, Any]:
    """The host side says how much went through; the first report counts."""
    warden = Warden()
    warden.spawn(function, *arguments)
    went = warden.hear()
    which = words(warden)
    while warden.hear() >= 0:
        pass
    return warden.verdict(went=went, which=which)


def _runs(pid: int) -> bool:
    """Is it there, and no zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as line:
            return line.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
