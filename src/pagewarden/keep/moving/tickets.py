"""What a destination has said of each VM that came, or was about to: taken, or never. Once said, it stays said."""

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from pagewarden.vocab import Refused

TAKEN, NEVER = "taken", "never"
TICKET = 16
"""Bytes of a ticket, and of a destination's name."""


class Tickets:
    """A directory of the destination's, which outlives its process: who has it, and the key, can answer for it.

    A decision is a symbolic link that leads nowhere: symlink(2) makes name and word in one step, and one that is there
    already stays. It must be on a file system that keeps what was synced; a copy of the directory that is used beside
    it, or an older one put back, would break the promise.
    """

    def __init__(self, path: Path) -> None:
        """Made if need be. OSError."""
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.name = bytes.fromhex(self._written("name", secrets.token_hex(TICKET)))

    def decide(self, ticket: bytes, word: str) -> str:
        """What holds from now on: this word, or the one that was there before. Refused where it cannot be written down:
        then nothing was decided."""
        return self._written(ticket.hex(), word)

    def _written(self, name: str, word: str) -> str:
        try:
            self._sync()  # where that is refused, nothing is written yet
            try:
                os.symlink(word, self._path / name)
            except FileExistsError:
                word = os.readlink(self._path / name)
        except OSError as error:
            code = error.errno or errno.EIO
            raise Refused(code, f"{self._path}: a ticket cannot be written down: {error.strerror or error}") from error
        with suppress(OSError):  # whoever looks sees it: there is no way back
            self._sync()
        return word

    def _sync(self) -> None:
        folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
