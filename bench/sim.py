"""The machine against event simulators in Python that run the same procedures to the same counts.

A page-event is one operation of the law on one page. The peers walk a sample of the requests, one event at a time, as
such simulators do; the machine runs the sample (counts must be equal) and the whole million.
"""

import heapq
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import count

import numpy as np
import salabim
import simpy

from pagewarden.cost import load_profile
from pagewarden.designs import DESIGNS, Copy, Do, Give, Hop, Procedure, Stop, Syscall, Take
from pagewarden.law import POLICIES, tabulate
from pagewarden.sim import Counts
from pagewarden.studies.compare.comparison import Setup, simulate
from pagewarden.vocab import Event, PageRange
from pagewarden.vocab.events import ENTRIES, RANGED
from pagewarden.workload import Workload
from tools import median, once, row

SETUP = Setup(POLICIES["hybrid"], load_profile("vmx-skylake"))
TABLE = tabulate(SETUP.policy)
NEXT, OUTCOME = TABLE.next.tolist(), TABLE.outcome.tolist()
EVENTS = [[[(event, int(n)) for event, n in enumerate(cell) if n] for cell in state] for state in TABLE.events]


def workload(requests: int, seed: int = 1) -> Workload:
    """Sizes of 4 KiB to 1 MiB, uniform in the logarithm; half of them writes."""
    random = np.random.default_rng(seed)
    pages = np.exp2(random.uniform(0, 8, requests)).astype(np.uint32)
    return Workload("mixed", "generated", random.random(requests) < 0.5, np.zeros(requests, np.uint64), pages * 4096)


def walk(procedure: Procedure, states: list[int], first: int, pages: int, size: int, found: Counts) -> Iterator[None]:
    """One request, page by page; yields at every event. The pool lies behind the buffers."""
    todo = list(reversed(procedure.steps))
    while todo:
        match todo.pop():
            case Do(op, _, otherwise, pool):
                base = len(states) // 2 if pool else first
                refused = any(OUTCOME[states[page]][op] for page in range(base, base + pages))
                ranged, entries = set(), set[Event]()
                for page in range(base, base + pages):
                    for event, n in EVENTS[states[page]][op]:
                        if event in RANGED:
                            ranged.add(event)
                        else:
                            found.events[event] += n
                            entries |= {Event(event)}.intersection(ENTRIES)
                    if refused:
                        break
                    states[page] = NEXT[states[page]][op]
                    yield
                for event in ranged:
                    found.events[event] += 1
                for event in entries:
                    found.ranges[event.key] += 1
                if refused:
                    todo.extend(reversed(otherwise or ()))
            case Take(_, then, _):
                todo.extend(reversed(then))
            case Hop() | Syscall() | Copy() as step:
                found.add_step(step, 1, size)
                yield
            case Stop() | Give():
                pass
    found.completed += 1


def start_states(procedure: Procedure, buffers: int) -> list[int]:
    machine = SETUP.machine(buffers)
    machine.prepare(procedure, PageRange(0, buffers))
    private, pool = machine.page(0), machine.page(buffers)
    return [TABLE.index[private]] * buffers + [TABLE.index[pool]] * buffers


def walks(name: str, load: Workload, found: Counts) -> list[Iterator[None]]:
    """The requests of a workload under a design, each a walk of its own; they run one after the other."""
    write, read, _ = SETUP.procedures(DESIGNS[name])
    states = start_states(write, 256)
    pages = (load.length // 4096).tolist()
    return [walk(write if w else read, states, 0, n, n * 4096, found) for w, n in zip(load.write, pages, strict=True)]


def by_simpy(requests: list[Iterator[None]]) -> None:
    environment = simpy.Environment()

    def process() -> Generator[simpy.Event, None, None]:
        for request in requests:
            for _ in request:
                yield environment.timeout(1)

    environment.process(process())
    environment.run()


def by_salabim(requests: list[Iterator[None]]) -> None:
    environment = salabim.Environment(yieldless=False)

    class Process(salabim.Component):  # type: ignore[misc]
        def process(self) -> Iterator[None]:
            for request in requests:
                for _ in request:
                    yield self.hold(1)

    Process()
    environment.run()


def by_heap(requests: list[Iterator[None]]) -> None:
    order = count()
    heap = [(0, next(order), (event for request in requests for event in request))]
    while heap:
        time, _, events = heapq.heappop(heap)
        for _ in events:
            heapq.heappush(heap, (time + 1, next(order), events))
            break


def sample(name: str, load: Workload, drive: Callable[[list[Iterator[None]]], None]) -> Counts:
    found = Counts()
    drive(walks(name, load, found))
    return found


def samples(load: Workload, drive: Callable[[list[Iterator[None]]], None]) -> dict[str, Counts]:
    return {name: sample(name, load, drive) for name in DESIGNS}


def page_events(load: Workload) -> int:
    """Law operations on pages, all designs together: pages times the operations of a request's listing."""
    total = 0
    for name in DESIGNS:
        for kind, procedure in enumerate(SETUP.procedures(DESIGNS[name])[:2]):
            machine = SETUP.machine(1)
            lines, _ = machine.trace(procedure, PageRange(0, 1), 4096)
            operations = sum(times for step, times, _ in lines if isinstance(step, Do))
            total += operations * int((load.length[load.write == (kind == 0)] // 4096).sum())
    return total


def main() -> None:
    few, many = workload(60), workload(1_000_000)
    mine = {name: simulate(SETUP, few, DESIGNS[name])[0] for name in DESIGNS}
    rates = {}
    for peer, drive in (("SimPy", by_simpy), ("salabim", by_salabim), ("heapq loop", by_heap)):
        seconds, theirs = once(partial(samples, few, drive))
        for name in DESIGNS:
            assert theirs[name].as_dict() == mine[name].as_dict(), (peer, name)
        rates[peer] = page_events(few) / seconds
    seconds = median(lambda: [simulate(SETUP, many, DESIGNS[name]) for name in DESIGNS], times=3)
    ours = page_events(many) / seconds
    row("page-events/s, one core", "rate", "pagewarden is")
    for peer, rate in rates.items():
        row(peer, rate, f"{ours / rate:,.0f} x")
    row("pagewarden", ours, "")
    print(f"a million requests, all {len(DESIGNS)} designs: {seconds:.2f} s; counts equal on {few.requests} a design")


if __name__ == "__main__":
    main()
