"""Many VMMs' pages: one small process that holds what must not be lost, and a pager for each VMM.

The holder keeps every userfaultfd open, so that no VMM's memory loses its guard with a pager that dies: who touches a
page waits until the next pager, which the holder starts at once. Where none can go on rightly, the VM is ended.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from pagewarden.keep.handover import HandedRegion, HandOver
from pagewarden.keep.pager import COUNTS, READING, HopelessPager, Pager, PagerLedger
from pagewarden.keep.source import PageSource
from pagewarden.kernel.door import readable
from pagewarden.kernel.files import Pipe, peer
from pagewarden.kernel.listening import heard
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import PAGE_SIZE, Refused, UserMistake
from pagewarden.vocab.places import put

HOPELESS = 3
"""Status of a pager that says that no other can go on either."""
MOST_COMING = 16
"""Connections that have not handed over anything whole yet; one more, and the oldest of them is refused."""
RESTARTS = 100
"""Pagers of one VM that may die until the VM is ended."""


@dataclass
class HeldVm:
    """What outlives a pager."""

    number: int
    pid: int
    watch: int
    """Its pidfd: readable once it has ended."""
    fault: Userfault
    regions: list[HandedRegion]
    ledger: PagerLedger
    pager: int = 0
    pager_watch: int = -1
    restarts: int = 0

    def close(self) -> None:
        for fd in (self.watch, self.pager_watch):
            if fd >= 0:
                os.close(fd)
        self.fault.close()
        self.ledger.close()


@dataclass
class KeepReport:
    """What was kept, in all."""

    vms: int = 0
    ended: int = 0
    """VMs that the keeper ended, for nobody could answer them rightly."""
    restarts: int = 0
    refused: list[str] = field(default_factory=list)
    """What was handed over and could not be taken."""
    counts: dict[str, int] = field(default_factory=dict)


def read_set(path: Path) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Page numbers, one a line, in the order of their use; UserMistake."""
    try:
        pages = np.array(path.read_text().split(), np.int64)
    except ValueError:
        raise UserMistake(f"{path}: a set has the number of a page in each line, as --record writes it") from None
    if len(pages) and pages.min() < 0:
        raise UserMistake(f"{path}: {pages.min()} is no page's number")
    return pages


class PageKeeper:
    """Serves whoever connects."""

    def __init__(
        self,
        listener: socket.socket,
        source: PageSource,
        *,
        record: Path | None = None,
        replay: Path | None = None,
        tell: Callable[[Mapping[str, object]], object] = lambda _: None,
        metrics: Path | None = None,
        limit: int | None = None,
        live: Callable[[Mapping[str, int]], object] | None = None,
    ) -> None:
        """record: where the pages that the first VM asks for are written at its end, replay: what to bring ahead of
        use. tell: hears each event. metrics: a file in Prometheus's text format, renewed once a second. limit: of a VM,
        in pages, as of Pager. live: hears what there is and was done in all, about once a second."""
        self._listener, self._source, self._tell, self._metrics = listener, source, tell, metrics
        self._limit, self._live = limit, live
        self._record, self._ahead = record, read_set(replay) if replay else np.zeros(0, np.int64)
        self._vms: dict[int, HeldVm] = {}
        self._coming: list[HandOver] = []
        self.report = KeepReport()

    def run(self, stop: int) -> None:
        """Until the descriptor `stop` can be read."""
        try:
            while True:
                watched = [stop, self._listener.fileno(), *(each.connection.fileno() for each in self._coming)]
                watched += [fd for vm in self._vms.values() for fd in (vm.watch, vm.pager_watch)]
                ready = set(readable(watched, 1 if self._metrics or self._live else None))
                if stop in ready:
                    return
                for coming in [each for each in self._coming if each.connection.fileno() in ready]:
                    self._take(coming)
                if self._listener.fileno() in ready:
                    self._come()
                for vm in list(self._vms.values()):
                    if vm.watch in ready:
                        self._finish(vm)
                    elif vm.pager_watch in ready:
                        self._take_over(vm)
                self._show()
        finally:
            while self._coming:
                self._refuse(self._coming[0], "the keeper ends, and nothing whole had come")
            for vm in list(self._vms.values()):
                self._finish(vm)
            self._show()

    # -- one VM --------------------------------------------------------------------------------------------------------

    def _come(self) -> None:
        """Nobody waits for what it says, for it may say nothing."""
        if len(self._coming) == MOST_COMING:
            self._refuse(self._coming[0], f"nothing whole came, and {MOST_COMING} others have come since")
        self._coming.append(HandOver(self._listener.accept()[0]))

    def _refuse(self, coming: HandOver, why: str) -> None:
        self._coming.remove(coming)
        coming.close()
        self.report.refused.append(why)
        self._tell({"event": "refused", "why": why})

    def _take(self, coming: HandOver) -> None:
        taken = None
        try:
            if (taken := coming.read(self._source.size)) is None:
                return
            pid = peer(coming.connection)
            watch = os.pidfd_open(pid)
        except (Refused, OSError) as error:
            if taken is not None:
                taken[0].close()
            self._refuse(coming, str(error))
            return
        self._coming.remove(coming)
        coming.close()
        fault, regions = taken
        ledger = PagerLedger(sum(each.size // each.unit for each in regions))
        self.report.vms += 1
        vm = HeldVm(self.report.vms, pid, watch, fault, regions, ledger)
        self._vms[vm.number] = vm
        size = sum(each.size for each in regions)
        self._tell({"event": "attached", "vm": vm.number, "pid": pid, "bytes": size, "page_size": regions[0].unit})
        self._start(vm)

    def _start(self, vm: HeldVm) -> None:
        vm.pager = os.fork()
        if not vm.pager:
            self._in_the_pager(vm)
        vm.pager_watch = os.pidfd_open(vm.pager)

    def _in_the_pager(self, vm: HeldVm) -> NoReturn:
        status = HOPELESS
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            for other in self._vms.values():
                if other is not vm:
                    other.fault.close()
            for coming in self._coming:
                coming.close()
            self._listener.close()
            pager = Pager(vm.fault, vm.regions, self._source, vm.ledger, self._limit)
            pager.ahead = self._ahead
            pager.run(vm.watch)
            if self._record is not None and vm.number == 1:
                self._record.write_text("".join(f"{page}\n" for page in dict.fromkeys(pager.order)))
            status = 0
        except HopelessPager as error:
            self._tell({"event": "hopeless", "vm": vm.number, "why": str(error)})
        finally:
            os._exit(status)

    def _take_over(self, vm: HeldVm) -> None:
        """Its pager has ended before the VM."""
        _, status = os.waitpid(vm.pager, 0)
        os.close(vm.pager_watch)
        vm.pager_watch = -1
        code = os.waitstatus_to_exitcode(status)
        if code == 0 or vm.watch in readable([vm.watch], 0):
            self._finish(vm)
            return
        vm.restarts += 1
        self.report.restarts += 1
        lost = bool(vm.ledger.words[READING])
        if code == HOPELESS or lost or vm.restarts > RESTARTS:
            why = "what its memory removed may be lost" if lost else "no pager can answer it rightly"
            self._tell({"event": "ended", "vm": vm.number, "why": why})
            self.report.ended += 1
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(vm.watch, signal.SIGKILL)
            self._finish(vm)
            return
        self._tell({"event": "taken over", "vm": vm.number, "status": code})
        self._start(vm)

    def _finish(self, vm: HeldVm) -> None:
        """The VM has ended, or the keeper does: then who touches a page that has not come waits, with the VMM's own
        userfaultfd."""
        if vm.pager_watch >= 0:
            over = vm.watch in readable([vm.watch], 0)
            if not over:
                signal.pidfd_send_signal(vm.pager_watch, signal.SIGTERM)
            os.waitpid(vm.pager, 0)
        counts = vm.ledger.counts()
        self._tell({"event": "left", "vm": vm.number, **counts})
        for name, count in counts.items():
            self.report.counts[name] = self.report.counts.get(name, 0) + count
        del self._vms[vm.number]
        vm.close()

    # -- what is said --------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        if self._live is not None:
            self._live(self.sums())
        if self._metrics is not None:
            put(self._metrics, self._in_prometheus_text().encode(), 0o644)

    def sums(self) -> dict[str, int]:
        """VMs, pages of theirs that are there now, and each count since the start, of those that have left as well."""
        found = {"vms": len(self._vms), "resident": 0, **{name: self.report.counts.get(name, 0) for name in COUNTS}}
        for vm in self._vms.values():
            found["resident"] += vm.ledger.resident
            for name, count in vm.ledger.counts().items():
                found[name] += count
        return found

    def _in_prometheus_text(self) -> str:
        """Prometheus, docs/instrumenting/exposition_formats.md: a TYPE a name, before its samples, all together."""
        alive = {f'{{vm="{vm.number}",pid="{vm.pid}"}}': vm.ledger for vm in self._vms.values()}
        samples = {
            "vms": ("gauge", {"": len(self._vms)}),
            "pager_restarts_total": ("counter", {"": self.report.restarts}),
            "vms_ended_total": ("counter", {"": self.report.ended}),
            "hand_overs_refused_total": ("counter", {"": len(self.report.refused)}),
            "resident_bytes": ("gauge", {labels: each.resident * PAGE_SIZE for labels, each in alive.items()}),
        }
        for name in COUNTS:
            counts = {labels: each.counts()[name] for labels, each in alive.items()}
            samples[f"{name}_total"] = "counter", counts
        lines = []
        for name, (kind, values) in samples.items():
            lines.append(f"# TYPE pagewarden_keep_{name} {kind}")
            lines += [f"pagewarden_keep_{name}{labels} {value}" for labels, value in values.items()]
        return "\n".join(lines) + "\n"


@contextmanager
def until_stopped() -> Iterator[int]:
    """A descriptor that can be read once SIGTERM or Ctrl-C came: nothing that is being done is torn apart."""
    pipe = Pipe(PAGE_SIZE)
    try:
        with heard(lambda *_: os.write(pipe.transmit, b"\0")):
            yield pipe.receive
    finally:
        pipe.close()
