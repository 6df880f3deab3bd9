"""The micro-operations: each is one step that nothing can come between."""

from enum import IntEnum


class Op(IntEnum):
    """A micro-operation. `key` is its name in listings and documents."""

    __hash__ = int.__hash__

    # the guest, and KVM for it
    GUEST_LOAD = 0
    GUEST_STORE = 1
    KVM_GET = 2  # KVM takes a reference from the store (get_pfn)
    KVM_PUT = 3
    GUEST_MAP = 4  # the guest's stage-2 entry
    GUEST_ZAP = 5
    GUEST_TLBI = 6
    SLOT_DELETE = 7  # the VMM deletes the memslot
    # host user space, and the kernel on its pointers
    HOST_LOAD = 8
    HOST_STORE = 9
    UACCESS_READ = 10  # copy_from_user: write(2) out of the window
    UACCESS_WRITE = 11  # copy_to_user: read(2) into the window
    HOST_MMAP = 12
    HOST_MUNMAP = 13
    FORK = 14
    MREMAP = 15
    REOPEN = 16  # map the file again, through /proc or a kept fd; mprotect of a window that only mprotect guards
    ALIAS_LOAD = 17
    ALIAS_STORE = 18
    ALIAS_CLOSE = 19
    HOST_DISCARD = 20  # madvise(MADV_REMOVE) through the window
    # the host kernel, holding the frame
    GUP_PIN = 21
    FD_GET = 22  # a reference through the fd: pread, pwrite, splice
    UNPIN = 23
    UNPIN_OLD = 24  # drop a reference to a frame that the page has left
    KMAP_READ = 25  # the kernel reads what it holds through its direct map
    KMAP_WRITE = 26
    DMA_MAP = 27
    DMA_UNMAP = 28
    IOTLB_INV = 29
    DMA_READ = 30  # a device reads memory
    DMA_WRITE = 31
    # conversion
    OFFER = 32  # the guest writes an I/O page-table entry
    SHARE = 33  # owner: private -> shared
    HOST_MAP = 34  # the host's entry
    UNSHARE_BEGIN = 35
    DONATE_BEGIN = 36
    HOST_ZAP = 37
    HOST_TLBI = 38
    UNSHARE_COMMIT = 39  # owner: leaving -> private; the caller is told
    # the store
    NOTIFY_BEGIN = 40
    NOTIFY_END = 41
    ALLOCATE = 42
    POPULATE = 43  # the host puts a payload in before the guest has the page
    PUNCH = 44
    RECLAIM = 45  # teardown: the guest is gone
    FORCE_RECLAIM = 46  # the host takes a private page from a living guest
    # pKVM's other borders
    SHARE_HYP = 47
    UNSHARE_HYP = 48
    DONATE_HYP = 49
    HYP_DONATE_HOST = 50
    SHARE_FFA = 51
    UNSHARE_FFA = 52
    LEND_GUEST = 53  # share_guest: to a guest that is not protected
    UNLEND_GUEST = 54
    # migration and swap, with the hypervisor's help
    MIGRATE_BEGIN = 55
    MIGRATE_COPY = 56
    MIGRATE_COMMIT = 57
    MIGRATE_ABORT = 58
    SWAP_OUT = 59
    SWAP_IN = 60
    SWAP_IN_TAMPERED = 61
    SWAP_IN_STALE = 62
    SWAP_READ = 63  # the host reads the swap copy
    # what the host may do to its own window
    HOST_DROP = 64  # madvise(MADV_DONTNEED) on the window, or reclaim: the host's entry goes, the bytes stay
    MPROTECT = 65  # mprotect(READ | WRITE) of the window
    # what came later
    UNSHARE_CHECK = 66  # are there references, now that the host's entry is gone?
    UNSHARE_ABORT = 67  # there are: the page stays shared
    SLOT_ADD = 68  # the VMM binds memory to a memslot
    FD_CLOSE = 69  # the last descriptor of the file is closed
    CORE_DUMP = 70  # the kernel writes the window into a core file
    KCORE_READ = 71  # root reads the frame through /proc/kcore
    HYP_PIN = 72  # the hypervisor pins a page that the host lends it
    HYP_UNPIN = 73

    @property
    def key(self) -> str:
        return self.name.lower()


HOST_READS = frozenset(
    {Op.HOST_LOAD, Op.UACCESS_READ, Op.ALIAS_LOAD, Op.KMAP_READ, Op.DMA_READ, Op.SWAP_READ, Op.CORE_DUMP, Op.KCORE_READ}
)  # fmt: skip
HOST_WRITES = frozenset({Op.HOST_STORE, Op.UACCESS_WRITE, Op.ALIAS_STORE, Op.KMAP_WRITE, Op.DMA_WRITE})
DESTROYS = frozenset(
    {Op.PUNCH, Op.HOST_DISCARD, Op.HOST_DROP, Op.FORCE_RECLAIM, Op.KMAP_READ, Op.KMAP_WRITE, Op.FORK, Op.CORE_DUMP,
     Op.KCORE_READ}
)  # fmt: skip
"""Operations of the host that may take a private page from the guest: holes, and what ends in a reclaim by force."""
FREES = frozenset(
    {Op.PUNCH, Op.HOST_DISCARD, Op.RECLAIM, Op.FORCE_RECLAIM, Op.KMAP_READ, Op.KMAP_WRITE, Op.SHARE, Op.UNSHARE_COMMIT,
     Op.MIGRATE_COMMIT, Op.SWAP_OUT, Op.FORK, Op.CORE_DUMP, Op.HOST_DROP}
)  # fmt: skip
"""Operations after which a frame that held the page's bytes may be somebody else's."""
KEEPS = frozenset(
    {Op.SHARE, Op.HOST_MAP, Op.UNSHARE_BEGIN, Op.UNSHARE_COMMIT, Op.MIGRATE_COPY, Op.MIGRATE_COMMIT, Op.MIGRATE_ABORT,
     Op.SWAP_OUT, Op.SWAP_IN}
)  # fmt: skip
"""Operations that must keep the guest's bytes: conversion, migration, swap."""
