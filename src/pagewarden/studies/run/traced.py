"""A run's timeline: the guest's exits, the conversions and copies in them, and each request from its share to its
unshare, with the pages that are open and those of the pool that are used."""

from collections.abc import Callable
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from pagewarden.guest.hypercalls import GuestReport, Number
from pagewarden.guest.serve import Hypervisor
from pagewarden.port import Memory
from pagewarden.studies.run.host import RequestPath
from pagewarden.studies.run.host_half import Done, Request
from pagewarden.studies.run.machine import Meter
from pagewarden.studies.run.watched import Convert, WatchedMemory
from pagewarden.vocab import PAGE_SIZE, PageRange
from pagewarden.vocab.timeline import CounterValue, Timeline, TimeSlice

EXITS, CONVERSIONS, DEVICE, COPIES = "guest: exits", "hypervisor: conversions", "host: device", "host: copies"
REQUEST = "request "
"""How the name of a request's track begins."""
OPEN, POOL = "pages open", "pool pages used"
_POOLED = ("bounce", "dma-buffer")
_SHARE, _DOORBELL, _UNSHARE = "share", "doorbell", "unshare"


class Recorder(Meter):
    """A machine.Meter that writes down when what happened. Of an isolated device only its doorbells are seen."""

    def __init__(self, design: str) -> None:
        self.timeline = Timeline()
        self._pooled = design in _POOLED
        self._exits: list[tuple[str, int, int]] = []
        self._copies: list[tuple[Request, Done, int, int]] = []
        self._used = 0
        self._open: NDArray[np.bool_]

    def memory(self, memory: Memory) -> Memory:
        """With its conversions on record."""
        self._open = np.zeros(memory.size // PAGE_SIZE, np.bool_)
        return WatchedMemory(memory, self._convert)

    def path(self, path: RequestPath) -> RequestPath:
        """With each request on record."""

        def recorded(request: Request) -> Done:
            begin = perf_counter_ns()
            if self._pooled:
                self._used += PageRange.covering(request.offset, request.length).count
                self.timeline.levels.append(CounterValue(POOL, begin, self._used))
            done = path(request)
            self._copies.append((request, done, begin, perf_counter_ns()))
            return done

        return recorded

    def device(self, notify: Callable[[int], None]) -> Callable[[int], None]:
        """With its work on record."""

        def recorded(queue: int) -> None:
            begin = perf_counter_ns()
            notify(queue)
            self.slice(DEVICE, "serves what was posted", begin)
            if self._used:
                self._used = 0
                self.timeline.levels.append(CounterValue(POOL, perf_counter_ns(), 0))

        return recorded

    def hypervisor(self, behind: Hypervisor) -> Hypervisor:
        """With its exits on record."""
        return _RecordedHypervisor(behind, self)

    def run(self, go: Callable[[], GuestReport]) -> GuestReport:
        """The run, then what only its end tells: which exits are whose."""
        outcome = go()
        self._attribute()
        return outcome

    def _convert(self, verb: str, pages: PageRange, convert: Convert) -> None:
        begin = perf_counter_ns()
        convert(pages)
        self.slice(CONVERSIONS, f"{verb} {pages.count} pages", begin, first=pages.start, pages=pages.count)
        self._open[pages.start : pages.stop] = verb == _SHARE
        self.timeline.levels.append(CounterValue(OPEN, perf_counter_ns(), int(self._open.sum())))

    def slice(self, track: str, name: str, begin: int, **about: str | int) -> None:
        """From then until now."""
        self.timeline.slices.append(TimeSlice(track, name, begin, perf_counter_ns(), (), about))

    def exit(self, kind: str, begin: int) -> None:
        """The guest was out from then until now."""
        self._exits.append((kind, begin, perf_counter_ns()))

    def _attribute(self) -> None:
        """The exits by batches: a share, a doorbell, an unshare, of which one or two may be missing. The first exit
        shares the rings, and is of none."""
        batches: list[list[tuple[str, int, int]]] = []
        last = _UNSHARE
        for place, each in enumerate(self._exits):
            if not place or each[0] not in (_SHARE, _DOORBELL, _UNSHARE):
                self._slice(EXITS, each, ())
                continue
            if each[0] == _SHARE or (each[0] == _DOORBELL and last != _SHARE) or not batches:
                batches.append([])
            batches[-1].append(each)
            last = each[0]
        copies, flow = iter(self._copies), 0
        copy = next(copies, None)
        for batch in batches:
            flow += 1
            chain, bells, number = flow, [], 0
            end = batch[-1][2]
            while copy is not None and copy[2] < end:
                flow, number = flow + 1, number + 1
                bells.append(flow)
                self._request(copy, number, batch[0][1], end, flow)
                copy = next(copies, None)
            for each in batch:
                self._slice(EXITS, each, (chain, *bells) if each[0] == _DOORBELL else (chain,))
        self.timeline.slices.sort(key=lambda each: (each.begin, -each.end))

    def _slice(self, track: str, each: tuple[str, int, int], flows: tuple[int, ...]) -> None:
        self.timeline.slices.append(TimeSlice(track, each[0], each[1], each[2], flows))

    def _request(self, copy: tuple[Request, Done, int, int], number: int, begin: int, end: int, flow: int) -> None:
        request, done, start, stop = copy
        name = "write" if request.to_file else "read"
        about: dict[str, str | int] = {
            "bytes": done.moved,
            "sector": request.position // 512,
            "gpa": hex(request.offset),
        }
        took = {"host copies": done.copies, "access syscalls": done.access_syscalls}
        self.timeline.slices += [
            TimeSlice(f"{REQUEST}{number} of a doorbell", name, begin, end, (flow,), about),
            TimeSlice(COPIES, name, start, stop, (flow,), {**about, **took}),
        ]


class _RecordedHypervisor:
    def __init__(self, behind: Hypervisor, recorder: Recorder) -> None:
        self._behind, self._recorder = behind, recorder

    def hypercall(self, number: int, arguments: tuple[int, int, int]) -> int:
        begin = perf_counter_ns()
        answer = self._behind.hypercall(number, arguments)
        known = [each.name.lower() for each in Number if each == number]
        self._recorder.exit(known[0] if known else f"hypercall {number}", begin)
        return answer

    def doorbell(self, queue: int) -> None:
        begin = perf_counter_ns()
        self._behind.doorbell(queue)
        self._recorder.exit(_DOORBELL, begin)
