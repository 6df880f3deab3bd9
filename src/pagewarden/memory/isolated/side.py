"""The untrusted host side, seen from inside: a process that has a window on a memory and nothing else of it."""

import os
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pagewarden.abi import memory as uapi
from pagewarden.abi import uffd
from pagewarden.kernel.door import Region, prctl
from pagewarden.kernel.uffd import GUARD, GUARD_FEATURES, Userfault
from pagewarden.memory.isolated import messages, sandbox
from pagewarden.memory.isolated.messages import Kind
from pagewarden.memory.window import Window


class HostSide(Window):
    """The window, as the function that the host side runs has it, with a word to and from the warden.

    fds: the descriptors that `spawn` was told to keep. warden: the pid that holds the memory.
    """

    def __init__(self, region: Region, channel: socket.socket, fds: tuple[int, ...], warden: int) -> None:
        super().__init__(region)
        self.fds = fds
        self.warden = warden
        self._channel = channel

    def report(self, value: int, data: bytes = b"") -> None:
        """Tell the warden's side a number (64 bits) and at most 240 bytes."""
        messages.send(self._channel, Kind.REPORT, value, data)

    def listen(self, timeout: float | None = None) -> int:
        """The next number that the warden's side tells; Refused(ETIMEDOUT), EOFError when it is gone."""
        message = messages.receive(self._channel, timeout, (Kind.TELL,))
        if message is None:
            raise EOFError("the warden is gone")
        return message.value


def run(
    size: int,
    file: int,
    channel: socket.socket,
    keeper: socket.socket,
    fds: tuple[int, ...],
    warden: int,
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    """Become the host side: window and guard, hand the guard over, give everything up, run. Does not return."""
    status = 1
    try:
        host = _enter(size, file, channel, keeper, fds, warden)
        function(host, *arguments)
        status = 0
        messages.send(channel, Kind.DONE, 0)
    except BaseException:
        words = traceback.format_exc()
        print(words, file=sys.stderr, flush=True)
        messages.send(channel, Kind.DONE, 1, words.encode()[-messages.DATA_MAX :])
    finally:
        with suppress(OSError, ValueError):  # what is not to be had any more is not to be flushed
            sys.stdout.flush()
        os._exit(status)


def _enter(
    size: int, file: int, channel: socket.socket, keeper: socket.socket, fds: tuple[int, ...], warden: int
) -> HostSide:
    parent = os.getppid()
    region = Region(size)
    guard = Userfault(GUARD_FEATURES | uffd.UFFD_FEATURE_EVENT_REMAP)  # a moved mapping would keep its guard
    region.place(file)
    region.keep_to_this_process()
    guard.register(region.address, size, GUARD)
    messages.send(keeper, Kind.HELLO, fds=(guard.fd,))
    messages.send(channel, Kind.HELLO, region.address, fds=(guard.fd,))
    sandbox.close_all_but({0, 1, 2, channel.fileno(), *fds})
    sandbox.drop_privileges()
    prctl(uapi.PR_SET_PDEATHSIG, 9)  # after setuid, which clears it
    if os.getppid() != parent:
        os._exit(1)
    sandbox.install(sandbox.filter_lines())
    messages.send(channel, Kind.READY)
    messages.receive(channel, None, (Kind.GO,))
    return HostSide(region, channel, fds, warden)
