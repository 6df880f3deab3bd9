"""Memory whose pages leave and come back through a file that the host owns and cannot read.

    from pagewarden.keep import KeptMemory

    with KeptMemory(1 << 30, limit=256 << 20, swap="/var/tmp/guest.swap") as mem:
        mem.populate(0, b"what the guest begins with")
        print(mem.resident, mem.swapped)

A KeptMemory is a PrivateMemory: private pages over the limit are sealed (AES-GCM) and written, and come back as the
guest touches them. The key stays in this process; a copy that is not the one written last is refused, by page and
reason, and the guest meets a fault in its place. A Template is one snapshot that many memories begin with, in the same
frames. It needs the package `cryptography` (the extra `keep`).
"""

from pagewarden.keep.cloned import ClonedMemory, Template
from pagewarden.keep.kept import KeptMemory

__all__ = ["ClonedMemory", "KeptMemory", "Template"]
