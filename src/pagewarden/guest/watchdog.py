"""Stops a guest that makes no progress: a thread that kicks a CPU when a run lasts too long without an exit."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_AGAIN = 0.05
"""Seconds between kicks: an emulated CPU may miss the first."""


@contextmanager
def watchdog(kick: Callable[[], None], patience: float) -> Iterator[Callable[[], None]]:
    """Call `kick` again and again once `patience` seconds have passed since entry, or since the last call of the
    function it yields, which says that there is progress. Never after the block has been left."""
    last = time.monotonic()
    lock, over = threading.Lock(), threading.Event()

    def progress() -> None:
        nonlocal last
        last = time.monotonic()

    def watch() -> None:
        while not over.wait(max(last + patience - time.monotonic(), _AGAIN)):
            with lock:
                if not over.is_set() and time.monotonic() - last >= patience:
                    kick()

    thread = threading.Thread(target=watch, name="guest watchdog", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        with lock:
            over.set()
        thread.join()
