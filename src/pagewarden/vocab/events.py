"""What is counted at the border. One enumeration for the model, the live runs, the reports and the JSON keys."""

from enum import IntEnum


class Event(IntEnum):
    """A kind of event. The lower-case name is the key in every report.

    Those marked `a page` are counted for each page; RANGED ones at most once for a call on a range, however many
    pages it holds (one ranged invalidation: virt/kvm/guest_memfd.c, __kvm_gmem_invalidate_begin flushes once a file).
    """

    HYPERCALLS = 0  # guest asks the hypervisor
    ACCESS_SYSCALLS = 1  # host syscalls that only give access to the bytes, not the one that does the I/O
    GUEST_COPIES = 2  # a copy of a whole buffer by the guest, of any size
    HOST_COPIES = 3  # the same by the host
    HYP_COPIES = 4  # a page copied by the hypervisor (migration, swap): a page
    GUEST_COPY_BYTES = 5
    HOST_COPY_BYTES = 6
    HYP_PTE_SET = 7  # the warden's entries: for the host, at whatever level guards; and of a table of owners: a page
    HYP_PTE_CLEAR = 8
    HOST_PTE_SET = 9  # the host's own page-table entries: a page
    HOST_PTE_CLEAR = 10
    GUEST_PTE_SET = 11  # the guest's stage-2 entries: a page
    GUEST_PTE_CLEAR = 12
    IO_PTE_SET = 13  # I/O page-table entries: a page
    IO_PTE_CLEAR = 14
    TLBI = 15  # RANGED: an invalidation, of a page or a range
    FAULTS = 16  # a page
    INJECTIONS = 17  # host aborts that the hypervisor hands back to the host: a page
    PINS = 18  # references taken on a page by GUP or through the fd: a page
    NOTIFICATIONS = 19  # RANGED: the host or a consumer of the fd is told
    ALLOCATIONS = 20  # backing pages taken from the host: a page
    SCRUBS = 21  # pages zeroed before somebody else has them: a page

    @property
    def key(self) -> str:
        return self.name.lower()


RANGED = frozenset({Event.TLBI, Event.NOTIFICATIONS})
"""Counted once for a call on a range."""

ENTRIES = (
    Event.HYP_PTE_SET,
    Event.HYP_PTE_CLEAR,
    Event.HOST_PTE_SET,
    Event.HOST_PTE_CLEAR,
    Event.GUEST_PTE_SET,
    Event.GUEST_PTE_CLEAR,
    Event.IO_PTE_SET,
    Event.IO_PTE_CLEAR,
)
"""Counted a page, but an operation on a range of pages also has a part that it pays once."""

EDGES = ("guest>hyp", "hyp>host", "host>hyp", "hyp>guest")
"""The hops: transitions between worlds, in the mail's words."""
