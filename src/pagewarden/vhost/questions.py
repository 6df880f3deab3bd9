"""Asking a front end for translations, many at once, on the channel that it gave for questions."""

import os
import socket
from collections import deque

from pagewarden.abi import vhost_user as abi
from pagewarden.abi.vhost_user import BackRequest, IotlbType
from pagewarden.vhost.messages import FrontEndFault, FrontMessage, ask
from pagewarden.vocab import PAGE_SIZE

UNDER_WAY = 1024
"""Questions that are not answered, at most; there are more when half of them are."""
NO_PAGE = -1
"""Of an answer that nobody waits for any more."""
_ANSWER = abi.HEADER.size + abi.U64.size


class Questions:
    """Of I/O pages; the front end answers each in turn, after an UPDATE on its own channel where there is one."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        channel.setblocking(False)
        self._waiting: deque[tuple[int, bool]] = deque()
        self.asked: deque[tuple[int, bool]] = deque()
        """I/O pages, and whether they are to be written, in the order of the answers."""
        self._heard = self._unsent = b""

    def put(self, misses: list[tuple[int, bool]]) -> None:
        """Ask for these."""
        self._waiting += misses
        self._send()

    def _send(self) -> None:
        """What the socket takes: the rest goes after an answer, and there is one to come, or the socket were empty."""
        if len(self.asked) <= UNDER_WAY // 2:
            data = [self._unsent]
            while self._waiting and len(self.asked) < UNDER_WAY:
                page, write = self._waiting.popleft()
                access = abi.VHOST_ACCESS_RW if write else abi.VHOST_ACCESS_RO
                data.append(
                    ask(BackRequest.IOTLB_MSG, abi.IOTLB.pack(page * PAGE_SIZE, PAGE_SIZE, 0, access, IotlbType.MISS))
                )
                self.asked.append((page, write))
            self._unsent = b"".join(data)
        if not self._unsent:
            return
        try:
            self._unsent = self._unsent[self.channel.send(self._unsent) :]
        except (BlockingIOError, ConnectionError):
            return  # full; or it went away, and `answers` says so
        except OSError as error:
            raise FrontEndFault(f"does not listen to questions: {error}") from error

    def answers(self) -> list[tuple[int, bool]] | None:
        """I/O pages that were answered, and whether each for writing; None at the end of the channel. FrontEndFault."""
        try:
            heard = self.channel.recv(_ANSWER * UNDER_WAY)
        except BlockingIOError:
            return []
        except ConnectionError:
            return None
        if not heard:
            return None
        self._heard += heard
        done = []
        while len(self._heard) >= _ANSWER:
            request, flags, size = abi.HEADER.unpack_from(self._heard)
            if (request, size) != (BackRequest.IOTLB_MSG, abi.U64.size) or not flags & abi.REPLY or not self.asked:
                raise FrontEndFault(f"answered no question: request {request}, flags {flags:#x}, {size} bytes")
            self._heard = self._heard[_ANSWER:]
            done.append(self.asked.popleft())
        self._send()
        return done

    def forget(self) -> None:
        """Nobody waits for what was asked: what is not sent need not be, and an answer to what was means nothing. It
        may come after the same page was asked for again, with what was true before."""
        self._waiting.clear()
        self.asked = deque([(NO_PAGE, False)] * len(self.asked))


def channel_of(message: FrontMessage) -> socket.socket:
    """The channel that comes with a message; FrontEndFault where it is none."""
    fd = message.take_fd()
    assert fd is not None
    try:
        channel = socket.socket(fileno=fd)
    except OSError as error:
        os.close(fd)
        raise FrontEndFault("sent something else than a socket for questions") from error
    if (channel.family, channel.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        channel.close()
        raise FrontEndFault("sent a socket for questions that is no Unix stream")
    return channel
