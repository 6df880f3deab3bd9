"""memfd_secret mapped twice, the host's view guarded by mprotect: out of the direct map, never pinned (no GUP)."""

import errno

from pagewarden.abi import memory as uapi
from pagewarden.kernel.door import claim, memfd_secret, memlock, too_little_locked
from pagewarden.kernel.mappings import MAPPINGS
from pagewarden.kernel.region import Region
from pagewarden.memory.backings.protocol import FileBacked, Tariff, Wanted, backing
from pagewarden.vocab import Event

OPEN = uapi.PROT_READ | uapi.PROT_WRITE


@backing(
    "memfd-secret",
    30,
    {
        "emulated": "none of its pages is ever pinned or in the kernel's direct map; an emulated CPU can use it",
        "host": "none of its pages is ever pinned or in the kernel's direct map, and no guest needs them",
    },
    stops="touches of the window, system calls that are given its addresses, pins (O_DIRECT, io_uring, vmsplice, "
    "process_vm_readv, /proc/PID/mem), the kernel's own mapping of all memory, a forked child",
    leaves="code in this process that uses the private mapping's addresses, or changes the window's (mprotect)",
)
class MemfdSecret(FileBacked):
    """For emulated CPUs: KVM cannot map it. A range of other permissions splits the mapping, so a scattered pattern of
    shared pages is refused before it uses up vm.max_map_count (ENOMEM)."""

    name = "memfd-secret"
    sharing = Tariff({Event.HYP_PTE_SET: 1})
    unsharing = Tariff({Event.HYP_PTE_CLEAR: 1}, {Event.TLBI: 1})
    punching = Tariff()
    compiled = single = None

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.keep(memfd_secret(wanted.size))
        self.guest, self.window = self.own(Region(wanted.size)), self.own(Region(wanted.size))
        try:
            self.guest.place(self.file)
            self.window.place(self.file, OPEN if wanted.shared else uapi.PROT_NONE)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # mm/secretmem.c, mlock_future_ok: each mapping counts
                raise
            raise too_little_locked(2 * wanted.size) from error
        if memlock() != "unlimited":
            claim(self.guest.address, wanted.size)  # a page that is charged when it is touched is refused here
        for region in (self.guest, self.window):
            region.advise_all(uapi.MADV_DONTFORK)

    def share(self, offset: int, length: int) -> None:
        MAPPINGS.take(2, "mprotect")  # at most: it may split one into three
        self.window.protect(OPEN, offset, length)

    def unshare(self, offset: int, length: int) -> None:
        self.window.protect(uapi.PROT_NONE, offset, length)

    def punch(self, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "memfd_secret cannot give pages back before it is closed")
