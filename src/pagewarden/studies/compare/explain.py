"""A procedure step by step: who runs, what it is, what it costs so far."""

from collections.abc import Mapping
from dataclasses import dataclass

from pagewarden.cost import Interval, price
from pagewarden.designs import PROCEDURES, WITH_PROPOSED, Design, Hop, Procedure, said
from pagewarden.sim import Counts
from pagewarden.studies.compare.comparison import Setup
from pagewarden.vocab import Event, PageRange, Refused, one_of


@dataclass(frozen=True)
class Priced:
    """A line with its price. who: runs it; text: what happens; times: executions; cost, total: ns of it, and so far."""

    who: str
    text: str
    times: int
    counts: Counts
    cost: Interval
    total: Interval


def procedure_named(setup: Setup, name: str, own: Mapping[str, Design] | None = None) -> Procedure:
    """An I/O design's write, or one of the other procedures; own: designs of the user's, by name. UserMistake lists the
    names."""
    designs = {**WITH_PROPOSED, **(own or {})}
    name = one_of("design or procedure", name, (*designs, *PROCEDURES))
    return setup.procedures(designs[name])[0] if name in designs else PROCEDURES[name](setup.policy)


@dataclass(frozen=True)
class Listing:
    """What ran; refusal: the law's, of the last line or of what has to go before the first, where it ends there."""

    lines: list[Priced]
    refusal: Refused | None = None


def explain(setup: Setup, procedure: Procedure, size: int) -> Listing:
    """One run over `size` bytes, as far as the law lets it."""
    pages = PageRange.covering(0, size, setup.page_size)
    who, total, lines = procedure.world, Interval(0, 0), list[Priced]()
    try:
        ran, refusal = setup.machine(pages.count).trace(procedure, pages, size)
    except Refused as before:
        return Listing([], before)
    for step, times, counts in ran:
        cost = price(counts.as_dict(), setup.profile, setup.cache)
        total = total.plus(cost)
        lines.append(Priced(who, said(step), times, counts, cost, total))
        if isinstance(step, Hop):
            who = step.edge.split(">")[1]
    return Listing(lines, refusal)


def summary(counts: Counts) -> str:
    """What a step counted, in words."""
    parts = [f"{counts.hops.total()} hop"] if counts.hops else []
    parts += [f"{counts[event]:,} {event.key.replace('_', ' ')}" for event in Event if counts[event]]
    return ", ".join(parts)
