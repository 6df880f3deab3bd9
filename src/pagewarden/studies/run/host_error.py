"""What the host kernel refused a run: the first error in words, how often it happened, and what to do about it."""

import errno
import os
from dataclasses import dataclass, replace

from pagewarden.vocab import host

REMEDIES = host.REMEDIES | {
    errno.ENOSPC: "make room there, or give --disk (without it: TMPDIR) a place that has some",
    errno.EDQUOT: "the quota is used up: make room, or give --disk (without it: TMPDIR) another place",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or take a file system that has such files",
    errno.EIO: "the disk itself fails, or became shorter: see the kernel's log (dmesg)",
    errno.EROFS: "the file system is mounted read-only: give --disk another place",
    errno.EINVAL: "the disk does not take I/O of this size or alignment: give --disk a plain file",
}
"""errno: what helps, after a semicolon; of a disk it is often another thing than of a path."""
ELSE = "see what the host says of it (dmesg), or try another --disk"


def remedy(code: int) -> str:
    """What to do about an errno of the host."""
    return REMEDIES.get(code, ELSE)


@dataclass(frozen=True, slots=True)
class HostError:
    """what: was tried when it happened first; times: errors of the host in all."""

    errno: int
    what: str
    times: int = 1
    advice: str = ""  # where the errno alone does not say what helps

    @property
    def name(self) -> str:
        return errno.errorcode.get(self.errno, str(self.errno))

    @property
    def reason(self) -> str:
        return f"{self.name}, {os.strerror(self.errno)}"

    @property
    def remedy(self) -> str:
        return self.advice or remedy(self.errno)

    def __str__(self) -> str:
        often = f" ({self.times:,} errors in all)" if self.times > 1 else ""
        return f"{self.what}: {self.reason}{often}; {self.remedy}"


class MemoryRefuses(OSError):
    """It is the guest's memory, not the disk, that the host may not use this way."""

    WHAT = "using the guest's memory as the design does"
    ADVICE = "this backing does not have the design: take --backing uffd-window, or --design window"


class Errors:
    """The first error of a host, and how many there were."""

    def __init__(self) -> None:
        self.first: HostError | None = None

    def note(self, error: OSError, what: str) -> None:
        if isinstance(error, MemoryRefuses):
            self.add(HostError(error.errno or errno.EIO, MemoryRefuses.WHAT, 1, MemoryRefuses.ADVICE))
        else:
            self.add(HostError(error.errno or errno.EIO, what))

    def add(self, error: HostError) -> None:
        """Those that somebody else has noted."""
        first = self.first
        self.first = error if first is None else replace(first, times=first.times + error.times)

    def packed(self) -> bytes:
        """For a message, at most 240 bytes; nothing is left. Empty: there was none."""
        first, self.first = self.first, None
        return b"" if first is None else f"{first.errno} {first.times} {first.what}".encode()[:240]

    def unpack(self, message: bytes, who: str) -> None:
        """Add what `who`, which is not trusted, has packed; what makes no sense is left out."""
        words = message.decode(errors="replace").split(" ", 2)
        if len(words) == 3 and all(word.isascii() and word.isdigit() and len(word) < 10 for word in words[:2]):
            said = "".join(letter for letter in words[2] if letter.isprintable())
            self.add(HostError(int(words[0]), f"{who}: {said}", max(1, int(words[1]))))
