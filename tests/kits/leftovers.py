"""How many files this process has open."""

import gc
import os


def descriptors(sweep: bool = False) -> int:
    """sweep: what tests before dropped goes first, so that it is not closed in the middle of a count."""
    if sweep:
        gc.collect()
    return len(os.listdir("/proc/self/fd"))
