"""Private guest memory for any Python program: the host keeps it mapped, and it answers only while the guest shares it.

    from pagewarden.memory import PageRange, PrivateMemory

    with PrivateMemory(64 << 20) as mem:
        mem.populate(0, b"what the guest begins with")
        mem.share(PageRange(0, 16))
        print(mem.window.read(0, 100))
        mem.unshare(PageRange(0, 16))

`auto` takes the strongest that this host has for a use (`use="kvm"`, `"emulated"`, or `"host"` without any guest), and
`.why` says why. What bytes Python copied out of a window, or into a payload, are ordinary memory of this process.
"""

from pagewarden.memory.backings.protocol import BackingName, Use
from pagewarden.memory.consumers import Hold
from pagewarden.memory.fresh_frames import migrate
from pagewarden.memory.isolated.messages import Message, MessageKind
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.side import HostSide
from pagewarden.memory.private import PrivateMemory
from pagewarden.memory.window import Window
from pagewarden.port import HostView, Listener, Memory
from pagewarden.vocab import PAGE_SIZE, PageRange, PagewardenError, PrivateAccess, Refused, Unavailable, UserMistake

__all__ = [
    "PAGE_SIZE", "BackingName", "Hold", "HostProcess", "HostSide", "HostView", "Listener", "Memory", "Message",
    "MessageKind", "PageRange", "PagewardenError", "PrivateAccess", "PrivateMemory", "Refused", "Unavailable",
    "Use", "UserMistake", "Window", "migrate",
]  # fmt: skip
