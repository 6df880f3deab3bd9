"""The ways to a page of a protected VM that the probe has already: those that need nothing but its address."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from inspect import isgeneratorfunction
from typing import TypeAlias, cast

from pagewarden.abi import memory as uapi
from pagewarden.kernel import door
from pagewarden.probe.paths import advice, direct, dump, faults, mappings, peers, pipes, reopen, streams, uring
from pagewarden.probe.pkvm.stage import BACKINGS, VmStage
from pagewarden.probe.registry import REGISTRY, Attempt, Direction, Opens, Path, Target, anywhere
from pagewarden.vocab import PAGE_SIZE

FAMILIES = (streams, pipes, direct, uring, peers, mappings, advice, reopen, faults, dump)
ELSEWHERE = ("load", "store", "warden-*", "ptrace-attach", "madvise-collapse", "userfaultfd-[ku]*")
"""What a VMM with one mapping of a few pages has not, or what is asked in another way here."""
FORKS = ("fork*", "madvise-dofork*")
DISKS = {"virtio": "/dev/vda", "ram": "/dev/ram0"}
"""Where O_DIRECT goes: the first does DMA, the second copies by the CPU."""

OwnAct: TypeAlias = Callable[[VmStage, int], object]
"""To a page of a stage; what it comes to is what the host saw, if it is bytes."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way; `start` begins it on a page of a stage, as a path's does. arms: it takes hold before the last step into
    a state. alone: the VM may be no good afterwards. requires: raises Unavailable where this kernel cannot do it."""

    name: str
    direction: Direction
    start: Callable[[VmStage, int], Attempt]
    arms: bool = False
    alone: bool = False
    backings: tuple[str, ...] = tuple(BACKINGS)
    requires: Callable[[], None] = anywhere


WAYS: list[Way] = []
"""All of them."""


def way(
    name: str, direction: Direction, *, alone: bool = False, backings: tuple[str, ...] = tuple(BACKINGS)
) -> Callable[[OwnAct], OwnAct]:
    """Enter a function of (stage, page) into the list: a plain one acts at once, a generator arms until its `yield`."""

    def enter(function: OwnAct) -> OwnAct:
        arms = isgeneratorfunction(function)

        def late(stage: VmStage, page: int) -> Attempt:
            yield
            seen = function(stage, page)
            return seen if isinstance(seen, bytes) else b""

        start = cast("Callable[[VmStage, int], Attempt]", function) if arms else late
        WAYS.append(Way(name, direction, start, arms, alone, backings))
        return function

    return enter


def of_the_probe(path: Path, name: str, opens: Opens, requires: Callable[[], None]) -> Way:
    """A path of the probe's as a way to one page of the VM."""
    forks = any(fnmatchcase(name, pattern) for pattern in FORKS)

    def start(stage: VmStage, page: int) -> Attempt:
        if forks:
            door.syscall("madvise", stage.hva(page), PAGE_SIZE, uapi.MADV_DOFORK)
        with ExitStack() as opened:
            me = os.getpid()
            target = Target(stage.hva(page), me, me, outsider=stage.outsider, fds=opens(opened))
            return (yield from path.start(target))

    return Way(name, path.direction, start, path.arms, requires=requires)


def disk(device: str, marked: bool) -> Opens:
    """Opens a block device twice: (for direct I/O, to look)."""

    def opens(opened: ExitStack) -> tuple[int, ...]:
        fds = tuple(os.open(device, os.O_RDWR | os.O_CLOEXEC | flags) for flags in (os.O_DIRECT, 0))
        for fd in fds:
            opened.callback(os.close, fd)
        os.pwrite(fds[1], direct.PAGE_OF_MARKS * 2 if marked else bytes(2 * PAGE_SIZE), 0)
        os.fsync(fds[1])
        return fds

    return opens


def _of_the_probe() -> Iterator[Way]:
    modules = [family.__name__ for family in FAMILIES]
    for path in REGISTRY.paths.values():
        if path.module not in modules or any(fnmatchcase(path.name, pattern) for pattern in ELSEWHERE):
            continue
        if path.module != direct.__name__:
            yield of_the_probe(path, path.name, path.opens, path.requires)
            continue
        for kind, device in DISKS.items():
            opens = disk(device, path.direction is Direction.WRITE)
            yield of_the_probe(path, f"{path.name}-{kind}", opens, anywhere)


WAYS.extend(_of_the_probe())
