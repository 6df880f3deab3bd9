"""The untrusted host side, seen from inside: a process that has a window on a memory and nothing else of it."""

import errno
import io
import linecache  # noqa: F401  what a traceback needs, before there are no files any more
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pagewarden.abi import memory as uapi
from pagewarden.abi import uffd
from pagewarden.kernel import confine
from pagewarden.kernel.door import prctl
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import ASIDE_FEATURES, GUARD, GUARD_FEATURES, Userfault, offered
from pagewarden.memory.isolated import messages, room
from pagewarden.memory.isolated.messages import MessageKind
from pagewarden.memory.scratch import Scratch
from pagewarden.memory.window import Window
from pagewarden.vocab import Refused
from pagewarden.vocab.host import mendable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOWEST_OWN = 64
"""pagewarden's own descriptors lie at this number or above, and above all that were handed over."""
SCRATCHES = 4
"""Scratch files made beforehand, at numbers of pagewarden's own: accessors at work at once that need no more."""


class HostSide(Window):
    """The window, as the function that the host side runs has it, with a word to and from the warden.

    fds: the descriptors that `spawn` was told to keep, by the numbers that they have in the warden. pid: this process
    as the warden sees it; warden: the pid, there, of the process that holds the memory.
    """

    def __init__(self, region: Region, channel: socket.socket, fds: tuple[int, ...], pid: int, warden: int) -> None:
        super().__init__(region)
        self.fds, self.pid, self.warden = fds, pid, warden
        self._channel = channel
        self._close_pages = region.adviser(uapi.MADV_DONTNEED)

    def report(self, value: int, data: bytes = b"") -> None:
        """Tell the warden's side a number (64 bits) and at most 240 bytes."""
        messages.send(self._channel, MessageKind.REPORT, value, data)

    def listen(self, timeout: float | None = None) -> int:
        """The next number that the warden's side tells; Refused(ETIMEDOUT), EOFError when it is gone."""
        message = messages.receive(self._channel, timeout, (MessageKind.TELL,))
        if message is None:
            raise EOFError("the warden is gone")
        return message.value

    def close_pages(self, offset: int, length: int) -> None:
        """Shut pages of the window, which nobody else can do where the memory stays with another process. OSError."""
        self._close_pages(offset, length)

    def pread_from(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        return super().pread_from(self._handed_over(fd), file_offset, segments)

    def pwrite_to(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        return super().pwrite_to(self._handed_over(fd), file_offset, segments)

    def transfer(self, fd: int, runs: "NDArray[np.int64]", places: "NDArray[np.int64]") -> int:
        return super().transfer(self._handed_over(fd), runs, places)

    def _handed_over(self, fd: int) -> int:
        """The descriptor, unless it is one of pagewarden's own: I/O to that would be lost without a word."""
        if fd >= LOWEST_OWN and fd not in self.fds and fd >= _lowest_own(self.fds):
            raise Refused(errno.EBADF, f"descriptor {fd} was not handed over: spawn(..., fds=[{fd}]) does that")
        return fd


def nothing(host: HostSide) -> None:
    """The least that a host side can run: to learn what its room is."""


class WordStream(io.TextIOBase):
    """What takes the place of standard output and error: the warden hears it, as far as it listens."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        data = text.encode(errors="backslashreplace")
        for at in range(0, len(data), messages.DATA_MAX):
            piece = data[at : at + messages.DATA_MAX]
            try:
                messages.send(self._channel, MessageKind.WORDS, 0, piece, timeout=0)
            except (OSError, Refused):  # it does not listen, or is gone: words are no reason to wait
                break
        return len(text)


NO_FILES = "there are no files here: import at the top of the function's module, which is done before they go\n"


class Entrance:
    """What the zygote hands its child: the only things that are open in it when it starts."""

    def __init__(
        self, size: int, channel: int, numbers: tuple[int, ...], warden: int, empty: int, found: room.Outcomes
    ) -> None:
        """size: of the memory, bytes; numbers: of the descriptors to keep; empty: a mount namespace, or -1; found: what
        became of the room so far."""
        self.size, self.numbers, self.warden, self.empty, self.found = size, numbers, warden, empty, found
        prctl(uapi.PR_SET_DUMPABLE, 0)
        confine.close_all_but({0, 1, 2, channel, *({empty} - {-1})})
        room.limit_yourself(_lowest_own(numbers))
        lowest = _lowest_own(numbers)
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, confine.lift(channel, lowest))
        if empty >= 0:
            self.empty = confine.lift(empty, lowest)

    def run(self, find: Callable[[], tuple[Callable[..., object], tuple[Any, ...]]]) -> NoReturn:
        """Become the host side: find the function and its arguments while there are files, get the memory, hand the
        guard over, give everything up, run."""
        status, stands = 1, False
        try:
            function, arguments = find()
            host = self._enter()
            stands = True
            sys.stdout = sys.stderr = WordStream(self._channel)
            function(host, *arguments)
            status = 0
            messages.send(self._channel, MessageKind.DONE, 0)
        except BaseException as error:
            words = ("" if stands else mendable(error)) or traceback.format_exc()
            if stands:
                words += NO_FILES * isinstance(error, ImportError)
                WordStream(self._channel).write(words)
            messages.send(self._channel, MessageKind.DONE, 1, words.encode()[-messages.DATA_MAX :])
        finally:
            os._exit(status)

    def _enter(self) -> HostSide:
        file = self._take_descriptors()
        region = Region(self.size)
        where_it_is = offered() & uffd.UFFD_FEATURE_RWP  # the warden protects by it, or does not
        guard = Userfault(  # a moved mapping keeps it
            GUARD_FEATURES | ASIDE_FEATURES | uffd.UFFD_FEATURE_EVENT_REMAP | where_it_is
        )
        guard.lift(_lowest_own(self.numbers))
        region.place(file)
        os.close(file)
        region.keep_to_this_process()
        guard.register(region.address, self.size, GUARD)
        messages.send(self._channel, MessageKind.HELLO, region.address, fds=(guard.fd,))
        scratches = [_own_scratch(_lowest_own(self.numbers)) for _ in range(SCRATCHES)]
        room.shut_the_door(self.found, self.empty, max((os.fstat(fd).st_size for fd in self.numbers), default=0))
        # The guard stays: it must not go before the address space, and the kernel closes descriptors after that.
        room.shut_the_mouth(self.found, (self._channel.fileno(), guard.fd))
        messages.send(self._channel, MessageKind.READY, 0, self.found.packed())
        go = messages.receive(self._channel, None, (MessageKind.GO,))
        if go is None:
            os._exit(1)
        host = HostSide(region, self._channel, self.numbers, go.value, self.warden)
        host._scratches += scratches
        return host

    def _take_descriptors(self) -> int:
        """Ask for the memory, now that nobody else can take it, and for the descriptors to keep, which get the numbers
        that they have in the warden; the memory's."""
        messages.send(self._channel, MessageKind.ASK)
        brought = messages.receive(self._channel, None, (MessageKind.MEMORY,), 1 + len(self.numbers))
        if brought is None:
            os._exit(1)
        lowest = _lowest_own(self.numbers)
        file, *handed = [confine.lift(fd, lowest) for fd in brought.fds]
        for number, fd in zip(self.numbers, handed, strict=True):
            os.dup2(fd, number)
            os.close(fd)
        return file


def _lowest_own(numbers: tuple[int, ...]) -> int:
    return max(LOWEST_OWN, *(number + 1 for number in numbers)) if numbers else LOWEST_OWN


def _own_scratch(lowest: int) -> Scratch:
    scratch = Scratch()
    scratch.lift(lowest)
    return scratch
