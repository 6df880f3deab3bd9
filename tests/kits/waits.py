"""How long a test waits for what must come."""

import time
from collections.abc import Callable

SOON = 300.0
"""Seconds, on a slow and busy machine too: only a test that fails waits for them."""


def in_time(condition: Callable[[], bool]) -> bool:
    """Does it come true? It is looked at again and again."""
    until = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
