"""Stops a guest that makes no progress: a thread that kicks a CPU when the guest runs too long without an exit."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from pagewarden.kernel.threads import beside

_AGAIN = 0.05
"""Seconds between kicks: an emulated CPU may miss the first."""


@contextmanager
def watchdog(kick: Callable[[], None], patience: float) -> Iterator[Callable[[bool], None]]:
    """Call `kick` again and again once the guest has run for `patience` seconds at a stretch.

    Yields a function to be told who runs: False, the host has it (a slow disk is not the guest's fault); True, the
    guest goes on. It runs at first. Never kicks after the block has been left.
    """
    since: float | None = monotonic()
    lock, over = threading.Lock(), threading.Event()

    def runs(guest: bool) -> None:
        nonlocal since
        since = monotonic() if guest else None

    def left() -> float:
        started = since
        return patience if started is None else started + patience - monotonic()

    def watch() -> None:
        while not over.wait(max(left(), _AGAIN)):
            with lock:
                if not over.is_set() and left() <= 0:
                    kick()

    wait = beside(watch)
    try:
        yield runs
    finally:
        with lock:
            over.set()
        wait()
