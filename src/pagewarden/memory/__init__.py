"""Private guest memory for any Python program: the host keeps it mapped, and it answers only while the guest shares it.

from pagewarden.memory import PageRange, PrivateMemory

with PrivateMemory(64 << 20) as mem:
    mem.populate(0, payload)
    mem.share(PageRange(0, 16))
    mem.window.read(0, 100)
    mem.unshare(PageRange(0, 16))
"""

from pagewarden.memory.consumers import Hold
from pagewarden.memory.private import PrivateMemory
from pagewarden.memory.window import Window
from pagewarden.vocab import PAGE_SIZE, PageRange, PrivateAccess, Refused, Unavailable

__all__ = ["PAGE_SIZE", "Hold", "PageRange", "PrivateAccess", "PrivateMemory", "Refused", "Unavailable", "Window"]
