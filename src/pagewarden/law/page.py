"""The state of one page of guest memory: everything that anybody knows or holds of it."""

from enum import IntEnum
from typing import Annotated, NamedTuple, Self


class _Field(IntEnum):
    """An enumeration that hashes like its number: pages are looked up by the hundred thousand. means: what a value says
    that its name does not."""

    means: str
    __hash__ = int.__hash__

    def __new__(cls, value: int, means: str = "") -> Self:
        made = int.__new__(cls, value)
        made._value_, made.means = value, means
        return made


class Owner(_Field):
    """Who has the page. pKVM's view of it by component is `component_states`."""

    HOST = 0, "the host's own: not yet the guest's, or no longer"
    GUEST = 1, "private: the guest's alone"
    OFFERED = 2, "private still, but the guest wrote an I/O page-table entry that the hypervisor has not taken up"
    SHARED = 3, "the guest's, lent to the host"
    LEAVING = 4, "on its way to private: nobody gets a new reference, old translations are being torn down"
    POISON = 5, "taken from the guest by force; its next touch is fatal to the guest"
    HYP = 6, "the hypervisor's own"
    HYP_SHARED = 7, "the host's, lent to the hypervisor"
    FFA = 8, "the host's, lent to the secure world (FF-A)"
    LENT = 9, "the host's, lent to a guest that is not protected"


class Home(_Field):
    """Where the bytes are."""

    HOLE = 0, "nowhere: the file has no page here"
    RESIDENT = 1
    MOVING = 2, "migration has begun"
    COPIED = 3, "migration has copied the bytes to the new frame"
    DIRTIED = 4, "somebody wrote to the old frame after the copy"
    SWAPPED = 5, "only the swap copy is left"


class Data(_Field):
    """What kind of bytes the page holds."""

    ZERO = 0, "nothing of the guest's"
    PUBLIC = 1, "bytes that the host may know: a payload, I/O data, what the guest has shared"
    SECRET = 2, "bytes that the guest wrote while the page was private"


class Reach(_Field):
    """A translation. One that exists is taken to be cached as well, the worst case for whoever revokes it."""

    NONE = 0
    LIVE = 1, "the entry is there"
    STALE = 2, "the entry is gone, but a TLB still has it"


class View(_Field):
    """The guest's stage-2 translation, with its flavour; a policy whose two views are one entry calls it PRIVATE."""

    NONE = 0
    PRIVATE = 1
    SHARED = 2
    STALE_PRIVATE = 3
    STALE_SHARED = 4


class Page(NamedTuple):
    """One page. A field that a policy has no use for stays as it was at the start."""

    owner: Annotated[Owner, "who has the page"] = Owner.HOST
    home: Annotated[Home, "where the bytes are"] = Home.HOLE
    data: Annotated[Data, "what kind of bytes the guest has there"] = Data.ZERO
    host: Annotated[Reach, "the host's entry at the level that guards: stage 2, or the window's own PTE"] = Reach.NONE
    alias: Annotated[
        bool, "a second host mapping that the guard does not know: a fork's, a moved or a reopened one"
    ] = False
    guest: Annotated[View, "the guest's stage-2 translation"] = View.NONE
    kvm: Annotated[bool, "KVM holds a reference (get_pfn), needed to map the page into the guest"] = False
    notify: Annotated[int, "invalidations that have begun and not ended: KVM may not map the page"] = 0
    pins: Annotated[int, "references of the host on the frame, by GUP or through the fd; 2 stands for more"] = 0
    old_pin: Annotated[bool, "somebody pins a frame that this page has left: it lives on as a separate object"] = False
    dma: Annotated[Reach, "the physical IOMMU's entry, and its IOTLB"] = Reach.NONE
    swap_old: Annotated[bool, "the host has kept an earlier swap copy"] = False
    beside: Annotated[Data, "where shared pages are other memory: what the frame holds that the guest does not see"] = (
        Data.ZERO
    )
    apart: Annotated[bool, "the host's mapping and the file have another frame by now than the guest"] = False
    slot: Annotated[
        bool, "KVM finds memory for the guest's touch: there is a memslot, and something mapped or open behind"
    ] = True
    mapped: Annotated[bool, "user space maps the page, which counts as a reference (exclusive references)"] = False
    hyp_pins: Annotated[int, "pins of the hypervisor on a page that the host lends it; 2 stands for more"] = 0
    closed: Annotated[bool, "the store's last descriptor is closed: KVM takes nothing from it any more"] = False


ABOUT = {name: (kind.__origin__, kind.__metadata__[0]) for name, kind in Page.__annotations__.items()}
"""The type of each field of a page, and what it says."""
PRIVATE = frozenset({Owner.GUEST, Owner.OFFERED})
"""Owners under which the host has no business with the bytes."""
MAX_PINS = 2
"""Two show every bug that more would."""
MAX_INVALIDATIONS = 3
"""One more waits. Counted, they are those of the actors that may be at one page at once: two vCPUs and the host."""


def flavour(owner: Owner) -> View:
    """The view that a guest access of a page with this owner goes through."""
    return View.PRIVATE if owner in PRIVATE else View.SHARED


def stale(view: View) -> View:
    """The view after its entry is gone and before the TLB knows."""
    return {View.PRIVATE: View.STALE_PRIVATE, View.SHARED: View.STALE_SHARED}.get(view, view)


_COMPONENTS = {
    Owner.HOST: ("OWNED", "NOPAGE", "NOPAGE"),
    Owner.GUEST: ("NOPAGE", "NOPAGE", "OWNED"),
    Owner.OFFERED: ("NOPAGE", "NOPAGE", "OWNED"),
    Owner.SHARED: ("SHARED_BORROWED", "NOPAGE", "SHARED_OWNED"),
    Owner.LEAVING: ("SHARED_BORROWED", "NOPAGE", "SHARED_OWNED"),
    Owner.POISON: ("OWNED", "NOPAGE", "POISON"),
    Owner.HYP: ("NOPAGE", "OWNED", "NOPAGE"),
    Owner.HYP_SHARED: ("SHARED_OWNED", "SHARED_BORROWED", "NOPAGE"),
    Owner.FFA: ("SHARED_OWNED", "NOPAGE", "NOPAGE"),
    Owner.LENT: ("SHARED_OWNED", "NOPAGE", "SHARED_BORROWED"),
}


def component_states(page: Page) -> tuple[str, str, str]:
    """The page as host, hypervisor and guest see it (arch/arm64/kvm/hyp/include/nvhe/memory.h, pkvm_page_state)."""
    return _COMPONENTS[page.owner]
