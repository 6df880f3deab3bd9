"""System calls by the number, with whatever arguments: what a wholly hostile host side tries. See hostile."""

import ctypes
import errno
import os

from hostile import NUMBERS, call, look, raw
from pagewarden.memory.isolated.side import HostSide
from pagewarden.vocab import PAGE_SIZE


def sweep_denied(host: HostSide, allowed: tuple[str, ...]) -> None:
    """Every number that is not in the table, and some beyond it, with arguments that would be of use."""
    # 335 and 336 are uretprobe and uprobe, which no filter sees (kernel/seccomp.c); they end whoever calls them: SIGILL
    numbers = [number for name, number in NUMBERS.items() if name not in allowed]
    numbers += [*range(337, 424), *range(463, 520), *(0x40000000 | n for n in range(0, 560)), 1 << 31, (1 << 32) - 1]
    buffer = ctypes.addressof(ctypes.create_string_buffer(4096))
    sets = [
        (0, 0, 0, 0, 0, 0),
        (host.address, PAGE_SIZE, PAGE_SIZE, 3, buffer, 0),
        (64, buffer, 4096, 0, 0, 0),
        (os.getpid(), host.address, buffer, PAGE_SIZE, 0, 0),
        (-1, -1, -1, -1, -1, -1),
    ]
    refused = (-errno.EPERM, -errno.ENOSYS)
    went = [number for number in numbers for arguments in sets if raw(number, *arguments) not in refused]
    host.report(len(went), " ".join(map(str, went)).encode()[:240])
    host.report(len(numbers))
    look(host)
    host.report(0)


def probes(host: HostSide, number: int) -> None:
    """uretprobe or uprobe, which no filter sees (kernel/seccomp.c): the errno, if it lives to tell."""
    host.report(0)
    answer = raw(number)
    look(host)
    host.report(-answer)


def sweep_allowed(host: HostSide, name: str) -> None:
    """One call of the table with hostile arguments, then a look: it may end this process, or block it."""
    buffer = ctypes.addressof(ctypes.create_string_buffer(4096))
    page = host.address + PAGE_SIZE
    for arguments in [
        (host.fds[0], page, PAGE_SIZE, 0, 0, 0),
        (page, PAGE_SIZE, 3, 0x32, -1, 0),
        (page, PAGE_SIZE, 4, 0, 0, 0),
        (65, page, 8, buffer, 0, 0),
        (66, page, 8, buffer, 0, 0),
        (67, page, 8, buffer, 0, 0),
        (0, 0, 0, 0, 0, 0),
        (buffer, buffer, buffer, buffer, buffer, buffer),
        (-1, -1, -1, -1, -1, -1),
    ]:
        call(name, *arguments)
        look(host)
    host.report(0, b"done")
