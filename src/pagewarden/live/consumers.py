"""Who else has the pages of a memory: consumers that are told before pages change, and references that forbid it."""

import errno
from collections.abc import Iterable
from typing import Self

from pagewarden.port import Listener
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused


class Hold:
    """References on pages: while it lasts, they are neither converted nor punched. A context manager."""

    def __init__(self, held: dict[int, tuple[PageRange, ...]], ranges: tuple[PageRange, ...]) -> None:
        self._held = held
        held[id(self)] = ranges

    def release(self) -> None:
        """Drop the references, from any thread, without waiting. Twice is once."""
        self._held.pop(id(self), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.release()


class Consumers:
    """The listeners and holds of one memory. Its owner serializes everything but the release of a hold."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[PageRange, ...]] = {}
        self.listeners: list[Listener] = []
        self.notifications = 0
        self.pins = 0

    def hold(self, ranges: tuple[PageRange, ...]) -> Hold:
        self.pins += sum(pages.count for pages in ranges)
        return Hold(self.held, ranges)

    def begin(self, pages: PageRange) -> list[Listener]:
        """Tell all; those told, for `end`. When one refuses, those told before it are told that it is over."""
        told: list[Listener] = []
        try:
            for listener in self.listeners:
                listener.invalidate_begin(pages)
                told.append(listener)
            self._refuse_held(pages)
        except BaseException:
            self.end(told, pages)
            raise
        finally:
            self.notifications += len(told)
        return told

    def end(self, told: Iterable[Listener], pages: PageRange) -> None:
        for listener in told:
            listener.invalidate_end(pages)

    def _refuse_held(self, pages: PageRange) -> None:
        first = min((max(held.start, pages.start) for ranges in list(self.held.values()) for held in ranges
                     if held.start < pages.stop and pages.start < held.stop), default=None)
        if first is not None:
            raise Refused(errno.EAGAIN, "something holds the page: retry when it is released", first * PAGE_SIZE)
