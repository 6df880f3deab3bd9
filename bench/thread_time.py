"""What the benchmarks of memory share: CPU time of the calling thread, side by side.

The thread spins while it waits for another CPU's flush, so a busy machine disturbs this less than wall time. Medians of
nine rounds, everything by turns in each round, ratios within the run; once alone, once while a sibling thread of this
process keeps another CPU busy, which a flush must then reach.
"""

import contextlib
import hashlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator

ROUNDS = 9
Timed = dict[str, Callable[[], float]]


def timed(action: Callable[[], object], times: int) -> Callable[[], float]:
    """Nanoseconds a call of the action, over so many calls."""

    def run() -> float:
        start = time.thread_time_ns()
        for _ in range(times):
            action()
        return (time.thread_time_ns() - start) / times

    return run


def looped(action: Callable[[int], object], times: int) -> Callable[[], float]:
    """The same where the action takes the number of times itself."""

    def run() -> float:
        start = time.thread_time_ns()
        action(times)
        return (time.thread_time_ns() - start) / times

    return run


@contextlib.contextmanager
def sibling() -> Iterator[None]:
    """A thread that is busy outside the interpreter."""
    stop, data = threading.Event(), bytes(32 << 20)

    def work() -> None:
        while not stop.is_set():
            hashlib.sha256(data)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def medians(cases: Timed) -> dict[str, float]:
    for case in cases.values():
        case()
    rounds = [{name: case() for name, case in cases.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(found[name] for found in rounds) for name in cases}


def table(title: str, cases: Timed, reference: str) -> dict[str, float]:
    """Print the medians, and return those of a thread alone."""
    alone = medians(cases)
    with sibling():
        busy = medians(cases)
    print(f"\n{title}\n{'':44}{'alone':>12}{'ratio':>8}{'+ sibling':>12}{'ratio':>8}")
    for name in cases:
        print(
            f"{name:44}{alone[name]:9,.0f} ns{alone[name] / alone[reference]:8.2f}"
            f"{busy[name]:9,.0f} ns{busy[name] / busy[reference]:8.2f}"
        )
    return alone
