"""Ctrl-C while a guest runs: an exception would be lost in the emulator's callbacks, so the CPU is stopped instead."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_by_ctrl_c(kick: Callable[[], None]) -> Iterator[None]:
    """The first SIGINT inside kicks; KeyboardInterrupt follows when the block ends, whatever it ends with. Another
    SIGINT raises at once. Outside the main thread, and where SIGINT is ignored, nothing changes."""
    usual = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler:
        yield
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.default_int_handler(number, frame)
        asked = True
        kick()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if asked:
            raise KeyboardInterrupt
