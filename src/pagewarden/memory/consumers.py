"""Who else has the pages of a memory: consumers that are told before pages change, references that forbid it,
and loans, which end before it."""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeAlias

from pagewarden.memory.bolts import ASKED, LENT, Bolts
from pagewarden.port import Listener
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagewarden.memory.loan import DirectLoan

Ranges: TypeAlias = "tuple[PageRange, ...] | Touched"


class Touched:
    """The pages of many places, named one by one only when somebody asks."""

    def __init__(self, places: "NDArray[np.int64]") -> None:
        """places: shape (2, n), offsets and lengths, bytes, each at least 1."""
        self._starts = places[0] // PAGE_SIZE
        self._stops = (places[0] + places[1] - 1) // PAGE_SIZE + 1

    @property
    def count(self) -> int:
        return int((self._stops - self._starts).sum())

    def __iter__(self) -> Iterator[PageRange]:
        for start, stop in zip(self._starts.tolist(), self._stops.tolist(), strict=True):
            yield PageRange(start, stop)


class Hold:
    """References on pages: while it lasts, they are neither converted nor punched. A context manager.

    It ends with `release`, and with the object itself: one that an exception left behind refuses nothing for ever.
    """

    def __init__(self, held: "dict[int, Ranges]", ranges: "Ranges") -> None:
        self._held = held
        held[id(self)] = ranges

    def release(self) -> None:
        """Drop the references, from any thread, without waiting. Twice is once."""
        self._held.pop(id(self), None)

    __del__ = release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.release()


class Consumers:
    """The listeners and holds of one memory. Its owner serializes everything but the release of a hold."""

    def __init__(self, bolts: Bolts) -> None:
        self.present: dict[int, Ranges] = {}
        """What each hold holds, by its number, and for each listener nothing: empty when nobody is to be asked."""
        self._listeners: list[Listener] = []
        self.lent: dict[int, DirectLoan] = {}
        self._bolts = bolts.words
        self.notifications = 0
        self.pins = 0

    def hold(self, ranges: tuple[PageRange, ...]) -> Hold:
        self.pins += sum(pages.count for pages in ranges)
        return Hold(self._asked(), ranges)

    def hold_touched(self, places: "NDArray[np.int64]") -> Hold:
        """The same for the pages of many places."""
        touched = Touched(places)
        self.pins += touched.count
        return Hold(self._asked(), touched)

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)
        self._asked()[id(self._listeners)] = ()

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners.remove(listener)
        if not self._listeners:
            del self.present[id(self._listeners)]

    def _asked(self) -> "dict[int, Ranges]":
        """Who is to be asked, for one more."""
        self._bolts[ASKED] = 1
        return self.present

    def lending(self) -> "dict[int, DirectLoan]":
        """The loans, for one more."""
        self._bolts[LENT] = 1
        return self.lent

    def concerned(self, start: int, stop: int, back: int) -> bool:
        """Is somebody to be asked or told before these pages change, or, where they go back to the guest, a loan to be
        ended? The bolts are drawn back as far as nobody is there: a hold ends without the lock."""
        if self.present:
            return True
        self._bolts[ASKED] = 0
        if not self.lent:
            self._bolts[LENT] = 0
            return False
        return bool(back) and self.lends(start, stop)

    def lends(self, start: int, stop: int) -> bool:
        """Is one of these pages lent?"""
        return any(loan.meets(start, stop) for loan in list(self.lent.values()))

    def take_back(self, pages: PageRange) -> None:
        """End the loans of these pages; Refused: one could not be ended."""
        for loan in list(self.lent.values()):
            if loan.meets(pages.start, pages.stop):
                try:
                    loan.take_back()
                except OSError as error:
                    why = "a device has the page mapped, and the kernel does not unmap it: reset the device"
                    raise Refused(error.errno or errno.EBUSY, why, pages.start * PAGE_SIZE) from error

    def around(self, ranges: Sequence[PageRange], back: Sequence[PageRange], change: Callable[[], None]) -> None:
        """Tell all listeners, change, tell them that it is over; the loans of pages that go `back` to the guest end
        before the change. Refused(EAGAIN) when a page is held even then, Refused where a loan cannot end, or what a
        listener raises: one that refuses hears nothing more, every other one that was told hears the end."""
        told: list[tuple[Listener, PageRange]] = []
        try:
            for pages in ranges:
                for listener in self._listeners:
                    told.append((listener, pages))
                    try:
                        listener.invalidate_begin(pages)
                    except Refused:
                        told.pop()
                        raise
                    self.notifications += 1
                self._refuse_held(pages)
            for pages in back if self.lent else ():
                self.take_back(pages)
            change()
        except BaseException:
            with suppress(BaseException):  # the first error is the one that goes on
                self._end(told)
            raise
        self._end(told)

    def _end(self, told: list[tuple[Listener, PageRange]]) -> None:
        """Each hears the end, whatever another makes of it; the first error goes on."""
        try:
            while told:
                listener, pages = told.pop(0)
                listener.invalidate_end(pages)
        except BaseException:
            with suppress(BaseException):
                self._end(told)
            raise

    def _refuse_held(self, pages: PageRange) -> None:
        first = min(
            (
                max(held.start, pages.start)
                for ranges in list(self.present.values())
                for held in ranges
                if held.start < pages.stop and pages.start < held.stop
            ),
            default=None,
        )
        if first is not None:
            raise Refused(errno.EAGAIN, "something holds the page: retry when it is released", first * PAGE_SIZE)
