"""The rules, one function an operation: (policy, page) -> Step. Its sources are rows of docs/sources.md."""

from collections.abc import Callable

from pagewarden.law.ops import Op
from pagewarden.law.page import Data, Home, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.step import Step
from pagewarden.vocab import Event

Rule = Callable[[Policy, Page], Step]
RULES: dict[Op, Rule] = {}
SOURCES: dict[Op, tuple[str, ...]] = {}


def rule(op: Op, *sources: str) -> Callable[[Rule], Rule]:
    """Register the rule of an operation with the sources of what it says: each a row of docs/sources.md, and after a
    colon what it is the source of."""

    def register(function: Rule) -> Rule:
        RULES[op], SOURCES[op] = function, sources
        return function

    return register


def start(policy: Policy) -> Page:
    """A page that nobody has touched: the host's, a hole. Stage 2 maps the host's own memory from the start."""
    open_to_host = policy.guard in (Guard.NONE, Guard.STAGE2)
    return Page(host=Reach.LIVE if open_to_host else Reach.NONE)


def present(page: Page) -> bool:
    """There is a frame with the bytes."""
    return page.home not in (Home.HOLE, Home.SWAPPED)


def leave_frame(policy: Policy, page: Page) -> Page:
    """The page on another frame: references and DMA stay with the old one. Whether somebody pins that is remembered
    where conversion itself leaves frames behind."""
    leaves = policy.has("replaces") or not policy.has("in-place")
    return page._replace(pins=0, dma=Reach.NONE, old_pin=leaves and (page.old_pin or page.pins > 0))


def scrubbed(policy: Policy, page: Page) -> tuple[Event, ...]:
    """What it costs to zero a frame that the page leaves, before somebody else has it."""
    secret = page.data is Data.SECRET and present(page)
    return (Event.SCRUBS,) if secret and policy.has("scrubs") else ()


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
