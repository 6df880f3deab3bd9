"""Threads that have begun, or an error: CPython's own start waits for ever for one that dies before it can say so."""

import _thread
import os
import sys
from collections.abc import Callable
from typing import Any, cast

from pagewarden.vocab import Unavailable
from pagewarden.vocab.host import NO_THREAD

_LOOK = 0.05
"""Seconds between looks whether a thread that is silent still lives."""


def beside(work: Callable[[], None]) -> Callable[[], object]:
    """Run `work` in a thread, which has begun when this returns; what is returned waits for its end.

    Unavailable where no thread can begin: none can be made, or it gets no memory for its first step, in which case
    threading.Thread.start does not return (Lib/threading.py of CPython 3.11, `self._started.wait()`).
    """
    begun, ended = _thread.allocate_lock(), _thread.allocate_lock()
    begun.acquire()
    ended.acquire()

    def whole() -> None:
        begun.release()
        try:
            work()
        finally:
            ended.release()

    before, usual = _tasks(), sys.unraisablehook
    sys.unraisablehook = cast(Any, callable)  # takes what a thread says that dies at once, and needs no memory
    try:
        _thread.start_new_thread(whole, ())
        while not begun.acquire(timeout=_LOOK):
            if before and _tasks() <= before:
                raise Unavailable(*NO_THREAD)
    except RuntimeError as error:
        raise Unavailable(*NO_THREAD) from error
    finally:
        sys.unraisablehook = usual
    return ended.acquire


def _tasks() -> set[str]:
    """The threads of this process; nothing where /proc does not say."""
    try:
        return set(os.listdir("/proc/self/task"))
    except OSError:
        return set()
