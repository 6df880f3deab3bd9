"""Memslots: which pages of the private fd stand behind which gfns. What a binding refuses is refused whole."""

from bisect import bisect_right
from dataclasses import dataclass
from errno import EEXIST, EINVAL, ENOENT

from pagewarden.vocab import Gfn, PageRange, Refused

MAX_SLOTS = 32764
"""KVM_USER_MEM_SLOTS: 32767 (SHRT_MAX) less KVM's internal ones (arch/x86/include/asm/kvm_host.h)."""


@dataclass(frozen=True, order=True)
class Memslot:
    """gfn: the first guest frame; pages: the pages of the fd that stand behind it and its successors."""

    gfn: int
    pages: PageRange

    @property
    def stop(self) -> int:
        return self.gfn + self.pages.count


class Memslots:
    """The bindings of one guest to one fd of so many pages. One that is set cannot be changed (guest_memfd.c kvm_gmem_bind)."""

    def __init__(self, pages: int) -> None:
        self._pages = pages
        self._slots: list[Memslot] = []  # by gfn

    def bind(self, gfn: Gfn, pages: PageRange) -> Memslot:
        """Refused: EINVAL for an empty range, one outside the fd, or a slot too many; EEXIST where gfns or pages of
        the fd (older kernels: EINVAL) are bound already. Disjoint ranges may be many slots. Source:
        set_memory_region_test.c."""
        slot = Memslot(gfn, pages)
        if gfn < 0 or not 0 <= pages.start < pages.stop <= self._pages:
            raise Refused(EINVAL, f"gfn {gfn}, pages [{pages.start}, {pages.stop}) of an fd of {self._pages}")
        if len(self._slots) == MAX_SLOTS:
            raise Refused(EINVAL, f"{MAX_SLOTS} memslots are all there are")
        for other in self._slots:
            if slot.gfn < other.stop and other.gfn < slot.stop:
                raise Refused(EEXIST, f"gfns [{slot.gfn}, {slot.stop}) overlap the slot at gfn {other.gfn}")
            if pages.start < other.pages.stop and other.pages.start < pages.stop:
                raise Refused(EEXIST, f"pages [{pages.start}, {pages.stop}) are bound at gfn {other.gfn}")
        self._slots.insert(bisect_right(self._slots, slot), slot)
        return slot

    def delete(self, slot: Memslot) -> PageRange:
        """The pages that the guest has lost; the fd keeps their bytes. Refused: ENOENT."""
        if slot not in self._slots:
            raise Refused(ENOENT, f"no slot at gfn {slot.gfn}")
        self._slots.remove(slot)
        return slot.pages

    def page(self, gfn: Gfn) -> int:
        """The fd's page behind a gfn; Refused (ENOENT) where no slot is."""
        index = bisect_right([slot.gfn for slot in self._slots], gfn) - 1
        if index < 0 or gfn >= self._slots[index].stop:
            raise Refused(ENOENT, f"no memslot has gfn {gfn}")
        slot = self._slots[index]
        return slot.pages.start + int(gfn) - slot.gfn
