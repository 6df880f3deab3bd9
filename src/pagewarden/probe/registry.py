"""What a path is: one way the host could reach a byte of its window, and the table of all of them."""

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from inspect import isgeneratorfunction
from typing import TypeAlias, TypeVar, cast

from pagewarden.vocab import PAGE_SIZE

MARK = b"\xa5" * 64
"""What a path writes; never the bytes of a canary (those are random)."""
SAMPLE = 64
"""Bytes that a path reads: longer than a canary."""


class Direction(StrEnum):
    """What a path is after."""

    READ = "read"  # the host tries to see the page's bytes
    WRITE = "write"  # the host tries to change or lose them


@dataclass(frozen=True, slots=True)
class Target:
    """One page of a window, as the host side that is on trial holds it."""

    address: int  # host virtual address of the page
    host: int  # pid of the host side
    warden: int  # pid of the process that holds the memory: the same when the host cooperates
    kvm: int = -1  # an open /dev/kvm, where the host side may not open it itself
    outsider: int = -1  # what to ask another process of this user by, where a fork would be in the sandbox as well
    fds: tuple[int, ...] = ()  # what the path's `opens` opened
    open_mapping: int = 0  # the page in the warden, where that is another process: no secret helps if this one must
    length: int = PAGE_SIZE


class Died(Exception):
    """A helper process that tried the access was killed by a signal."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"killed by signal {signal}")
        self.signal = signal


Attempt: TypeAlias = Generator[None, bytes, bytes]
"""A path at work: up to its one `yield` it arms itself (takes a pin, forks, registers), afterwards it uses that.
It is sent the first bytes of the canary (only a path that compares needs them) and returns the bytes it saw."""


PathStart: TypeAlias = Callable[[Target], Attempt]


Opens: TypeAlias = Callable[[ExitStack], tuple[int, ...]]
"""Opens what a path's I/O goes to, closed with the stack; Unavailable. The warden does it: an untrusted host side may
open nothing, but what it has been handed it may read and write."""


@dataclass(frozen=True, slots=True)
class Path:
    """A named way to a page; `start` begins an attempt, which raises OSError or Died where it is refused."""

    name: str
    direction: Direction
    about: str  # one line: what is done
    start: PathStart
    requires: Callable[[], None]  # raises Unavailable where this machine cannot run it at all
    opens: Opens  # opens the descriptors that it is handed
    locks: bool  # whether it charges pages as locked memory, of which an untrusted host side may have none
    calls: tuple[str, ...]  # system calls without which it cannot be done, beside those that every program makes
    advice: int | None  # the madvise advice without which it cannot be done
    module: str  # where it is defined
    size: int  # bytes of the memory it is tried on; the page on trial is the one in the middle
    arms: bool = False  # whether it takes hold before the conversion


@dataclass(slots=True)
class Registry:
    """Every path by (name, direction), in the order of definition."""

    paths: dict[tuple[str, Direction], Path] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        key = path.name, path.direction
        if key in self.paths:
            raise ValueError(f"path {key} is there already")
        self.paths[key] = path


REGISTRY = Registry()


def anywhere() -> None:
    """The requirement of a path that every Linux can run."""


def no_descriptors(opened: ExitStack) -> tuple[int, ...]:
    """Opened for a path that needs no descriptor, or makes its own by calls that any host side may make."""
    return ()


PathFunction = TypeVar("PathFunction", bound=Callable[[Target], bytes | Attempt])


def path(
    name: str,
    direction: Direction,
    *,
    requires: Callable[[], None] = anywhere,
    opens: Opens = no_descriptors,
    locks: bool = False,
    about: str = "",
    calls: tuple[str, ...] = (),
    advice: int | None = None,
    size: int = 2 * PAGE_SIZE,
) -> Callable[[PathFunction], PathFunction]:
    """Enter a function into the registry: a plain one acts at once, a generator arms itself before its `yield`."""

    def enter(function: PathFunction) -> PathFunction:
        line = about or (function.__doc__ or "").strip().splitlines()[0]
        waits = isgeneratorfunction(function)
        start = cast("PathStart", function if waits else _late(cast("Callable[[Target], bytes]", function)))
        module = function.__module__
        REGISTRY.add(Path(name, direction, line, start, requires, opens, locks, calls, advice, module, size, waits))
        return function

    return enter


def _late(function: Callable[[Target], bytes]) -> Callable[[Target], Attempt]:
    """A path that does nothing before the conversion."""

    def start(target: Target) -> Attempt:
        yield
        return function(target)

    return start
