"""Ending things whatever comes: an errno or the exception of a signal handler delays an end, and never prevents it."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from pagewarden.vocab import InternalError
from pagewarden.vocab.closing import Closing

TRIES = 3


class Closable(Protocol):
    """A socket, a userfaultfd."""

    def close(self) -> None: ...


Piece = TypeVar("Piece", bound=Closable)


class Composed(Closing):
    """What consists of parts that are closed with it, the last first. A part can be closed twice, and one that nobody
    refers to any more closes itself: a constructor that fails half way leaves nothing."""

    def __init__(self) -> None:
        self._parts: list[Closable] = []

    def own(self, part: Piece) -> Piece:
        """Close it with the others; the part itself."""
        self._parts.append(part)
        return part

    def close(self) -> None:
        """Give everything back, whatever comes in between. Twice is once."""
        insist(*(part.close for part in reversed(self._parts)))


def insist(*acts: Callable[[], object]) -> None:
    """Do each of the acts, in order, again where an errno or an exception comes in between. In the end the first is
    raised that was no errno, or that no other try got over. An act can be repeated: it does what is left of it."""
    came: BaseException | None = None
    for act in acts:
        for tries_left in reversed(range(TRIES)):
            try:
                act()
                break
            except InternalError as hopeless:
                came = came or hopeless
                break
            except OSError as refused:
                came = came or (None if tries_left else refused)
            except BaseException as interruption:
                came = came or interruption
    if came is not None:
        raise came


def gone(fd: int) -> None:
    """Close a descriptor. Whatever close(2) says, it is closed: an error is about what was written to it."""
    with suppress(OSError):
        os.close(fd)


def shut(*things: Closable) -> None:
    """The same for what closes itself."""
    for thing in things:
        with suppress(OSError):
            thing.close()
