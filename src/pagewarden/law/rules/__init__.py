"""The rules, one function an operation: (policy, page) -> Step. Its sources are rows of `law.sources`."""

from collections.abc import Callable

from pagewarden.law.ops import Op
from pagewarden.law.page import PRIVATE, Data, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.step import Step
from pagewarden.vocab import Event

Rule = Callable[[Policy, Page], Step]
RULES: dict[Op, Rule] = {}
SOURCES: dict[Op, dict[str, tuple[str, ...]]] = {}
"""Of each operation, by family of objects ("" for all of them), what its rule rests on: each a row of `law.sources`,
and after a colon what it is the source of."""


def rule(op: Op, *sources: str, **families: str | tuple[str, ...]) -> Callable[[Rule], Rule]:
    """Register the rule of an operation with the sources of what it says, of all objects and of some families: several
    of them by their names with `_` between."""
    known = {
        name: (those,) if isinstance(those, str) else those
        for names, those in families.items()
        for name in names.split("_")
    }

    def register(function: Rule) -> Rule:
        RULES[op], SOURCES[op] = function, {"": sources, **known}
        return function

    return register


def start(policy: Policy) -> Page:
    """A page that nobody has touched: a hole. Stage 2 maps the host's own memory from the start."""
    open_to_host = policy.guard in (Guard.NONE, Guard.STAGE2)
    return Page(owner=policy.starts, host=Reach.LIVE if open_to_host else Reach.NONE)


def present(page: Page) -> bool:
    """There is a frame with the bytes."""
    return page.home not in (Home.HOLE, Home.SWAPPED)


def elsewhere(policy: Policy, page: Page) -> bool:
    """The guest's page is other memory at the moment, of which the law keeps nothing but the bytes."""
    return policy.guard is Guard.ABSENT and page.owner is Owner.SHARED


def found(policy: Policy, page: Page) -> bool:
    """KVM has memory for the guest's touch: there is a memslot, and the store is open, or the page is elsewhere."""
    return page.slot and (not page.closed or elsewhere(policy, page))


def by_address(policy: Policy) -> bool:
    """KVM finds the guest's pages through the host's own mapping of them, whatever becomes of that."""
    return not policy.has("gets-pfn") and not policy.has("second-mapping")


def leave_frame(policy: Policy, page: Page) -> Page:
    """The page on another frame: references and DMA stay with the old one. Whether somebody pins that is remembered
    where conversion itself leaves frames behind."""
    leaves = policy.has("replaces") or not policy.has("in-place")
    return page._replace(pins=0, dma=Reach.NONE, old_pin=page.old_pin or (leaves and page.pins > 0))


def let_go(policy: Policy, page: Page) -> Page:
    """KVM drops its pin. Where that alone kept the frame, the page is the one that the host's mapping has since."""
    page = page._replace(kvm=False)
    return leave_frame(policy, page)._replace(apart=False, data=Data.ZERO) if page.apart else page


def scrubbed(policy: Policy, page: Page) -> tuple[Event, ...]:
    """What it costs to zero a frame that the page leaves, before somebody else has it."""
    secret = page.data is Data.SECRET and present(page)
    return (Event.SCRUBS,) if secret and policy.has("scrubs") else ()


def entered(policy: Policy, event: Event) -> tuple[Event, ...]:
    """What it costs to name the page's owner: HYP_PTE_SET for the guest, HYP_PTE_CLEAR when it no longer is."""
    return (event,) if policy.has("owner-table") else ()


def fetched(page: Page) -> tuple[Event, ...]:
    """What it costs that the page gets a frame at somebody's touch: the frame, and a copy if the bytes are in swap."""
    if present(page):
        return ()
    return (Event.ALLOCATIONS, Event.HYP_COPIES) if page.home is Home.SWAPPED else (Event.ALLOCATIONS,)


def cut_off(page: Page, guest: bool = False, host: bool = False) -> tuple[Event, ...]:
    """What it costs to take the page from the guest, from the host's own mapping, or from both at once: an entry that
    is there is cleared, and what a TLB may have is invalidated, once."""
    cleared: tuple[Event, ...] = ()
    if guest and page.guest in (View.PRIVATE, View.SHARED):
        cleared += (Event.GUEST_PTE_CLEAR,)
    if host and page.host is Reach.LIVE:
        cleared += (Event.HOST_PTE_CLEAR,)
    cached = (guest and page.guest is not View.NONE) or (host and page.host is not Reach.NONE)
    return (*cleared, Event.TLBI) if cached else ()


def moving(page: Page) -> bool:
    """The page is on its way to another frame."""
    return page.home in (Home.MOVING, Home.COPIED, Home.DIRTIED)


def written(page: Page) -> Home:
    """Where the bytes are after a write to the frame: one that comes after the copy misses the new frame."""
    return Home.DIRTIED if page.home is Home.COPIED else page.home


def shut(policy: Policy, page: Page) -> bool:
    """The page is private, and its guard is at work: nothing of the host's reaches it, as it stands."""
    return page.owner in PRIVATE and page.host is Reach.NONE and policy.guard is not Guard.NONE
