"""Counts times prices: what a design costs, term by term, and how two designs differ."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pagewarden.cost.interval import Interval
from pagewarden.cost.names import BYTES, EVENTS, GUEST_RATES, HOPS, RANGES, RATES, SYSCALLS
from pagewarden.cost.profile import BY_USER, Price, Profile
from pagewarden.vocab import PAGE_SIZE, Event, InternalError

Cache: TypeAlias = Literal["warm", "cold"]
"""Whether the bytes that are copied lie in a cache."""
Amounts: TypeAlias = Mapping[str, Any]
"""What reports count: Event keys -> numbers, `hops_by_edge` {edge: n} and, if known, `syscalls` {name: n}, the access
syscalls by name, and `ranges` {event key: n}, the operations on a range that set or cleared entries. `hops`, the sum of
the edges, may be there and is not priced again. Averages (not whole) are fine."""


@dataclass(frozen=True, slots=True)
class Term:
    """One line of a bill."""

    price: Price
    count: float  # events, or bytes
    cost: Interval  # ns


def price(counts: Amounts, profile: Profile, cache: Cache = "warm") -> Interval:
    """ns that these counts cost; a range where a parameter of the profile is among them."""
    return total_of(bill(counts, profile, cache))


def bill(counts: Amounts, profile: Profile, cache: Cache = "warm") -> list[Term]:
    """The price term by term, in the order of names.PRICES, without what did not happen."""
    return _terms(quantities(counts, profile, cache), profile)


def difference(a: Amounts, b: Amounts, profile: Profile, cache: Cache = "warm") -> Interval:
    """ns by which a costs more than b. Each parameter has one value for both: what they share falls out.

    a is cheaper for sure if high < 0, dearer for sure if low > 0.
    """
    return total_of(difference_bill(a, b, profile, cache))


def difference_bill(a: Amounts, b: Amounts, profile: Profile, cache: Cache = "warm") -> list[Term]:
    """The difference term by term; a count is negative where b has more. The widest costs are what a doubt hangs on."""
    first, second = quantities(a, profile, cache), quantities(b, profile, cache)
    return _terms({name: first[name] - second[name] for name in first}, profile)


def contenders(designs: Mapping[str, Amounts], profile: Profile, cache: Cache = "warm") -> tuple[str, ...]:
    """The designs that no other one beats at all prices of the profile, in the order given; one: it is the cheapest."""
    return tuple(
        name
        for name, mine in designs.items()
        if not any(difference(mine, other, profile, cache).low > 0 for other in designs.values())
    )


def without_effect(some: Iterable[Amounts], profile: Profile, cache: Cache) -> tuple[str, ...]:
    """Settings of the user's (`tlbi_ns`) that nothing among these counts is paid by."""
    paid = [quantities(counts, profile, cache) for counts in some]
    given = (price for price in profile.prices.values() if price.source == BY_USER)
    return tuple(price.setting for price in given if not any(each[price.name] for each in paid))


def _terms(quantities: Mapping[str, float], profile: Profile) -> list[Term]:
    return [
        Term(entry, quantities[name], entry.value.times(quantities[name]))
        for name, entry in profile.prices.items()
        if quantities[name]
    ]


def total_of(terms: list[Term]) -> Interval:
    """ns of a whole bill."""
    return Interval(math.fsum(term.cost.low for term in terms), math.fsum(term.cost.high for term in terms))


def quantities(counts: Amounts, profile: Profile, cache: Cache) -> dict[str, float]:
    """How often each price of the profile is paid. InternalError for counts that nobody can have made."""
    unknown = set(counts) - {event.key for event in Event} - {"hops", "hops_by_edge", "syscalls", "ranges"}
    unknown |= set(counts.get("ranges", ())) - set(RANGES)
    unknown |= set(counts.get("hops_by_edge", ())) - set(HOPS)
    if unknown or ("hops" in counts and "hops_by_edge" not in counts):
        raise InternalError(f"counts that have no price: {sorted(unknown) or 'hops without hops_by_edge'}")
    result = dict.fromkeys(profile.prices, 0.0)
    for edge, n in counts.get("hops_by_edge", {}).items():
        result[HOPS[edge]] = _amount(edge, n)
    for name in EVENTS:
        result[name] = _amount(name, counts.get(name, 0))
    copied = {event: _amount(event.key, counts.get(event.key, 0)) for event in BYTES}
    result[RATES[cache]] = copied[Event.HOST_COPY_BYTES] + PAGE_SIZE * result[Event.HYP_COPIES.key]
    guest_rate = GUEST_RATES[cache] if GUEST_RATES[cache] in result else RATES[cache]
    result[guest_rate] += copied[Event.GUEST_COPY_BYTES]
    for name, n in counts.get("ranges", {}).items():
        if RANGES[name] in result:
            result[RANGES[name]] = _amount(name, n)
    for name, n in counts.get("syscalls", {}).items():
        own = SYSCALLS.get(name, "")
        if own in result:  # the others stay among access_syscalls
            result[own] = _amount(name, n)
            result[Event.ACCESS_SYSCALLS.key] -= result[own]
    if result[Event.ACCESS_SYSCALLS.key] < 0:
        raise InternalError(f"more syscalls by name {dict(counts['syscalls'])} than access_syscalls")
    return result


def _amount(name: str, n: float) -> float:
    if not 0 <= n < math.inf:
        raise InternalError(f"{name} counted {n} times")
    return float(n)
