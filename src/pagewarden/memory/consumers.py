"""Who else has the pages of a memory: consumers that are told before pages change, and references that forbid it."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

    @property
    def any(self) -> bool:
        return bool(self.held or self.listeners)

    @contextmanager
    def told(self, ranges: Sequence[PageRange]) -> Iterator[None]:
        """Tell all listeners around the block. Refused(EAGAIN) when a page is held even then, or what a listener
        raises; those told before hear that it is over."""
        told: list[tuple[Listener, PageRange]] = []
        try:
            for pages in ranges:
                for listener in self.listeners:
                    listener.invalidate_begin(pages)
                    told.append((listener, pages))
                self._refuse_held(pages)
            yield
        finally:
            self.notifications += len(told)
            for listener, pages in told:
                listener.invalidate_end(pages)

    def _refuse_held(self, pages: PageRange) -> None:
        first = min(
            (
                max(held.start, pages.start)
                for ranges in list(self.held.values())
                for held in ranges
                if held.start < pages.stop and pages.start < held.stop
            ),
            default=None,
        )
        if first is not None:
            raise Refused(errno.EAGAIN, "something holds the page: retry when it is released", first * PAGE_SIZE)
