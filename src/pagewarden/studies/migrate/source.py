"""The side that a guest leaves, by a doorbell of its own choice: the one behind which it is asked to stand."""

import math
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from socket import socket

from pagewarden.guest.hypercalls import GuestReport
from pagewarden.keep.moving import Departure, InDoubt
from pagewarden.studies.migrate.plan import Migration, checked
from pagewarden.studies.run.disk import DiskFile
from pagewarden.studies.run.machine import LiveMachine, live_machine
from pagewarden.studies.run.one import run_on
from pagewarden.studies.run.paused import encoded, half
from pagewarden.studies.run.plan import RunPlan, describe
from pagewarden.studies.run.warm import warm
from pagewarden.vocab import Refused
from pagewarden.vocab.errors import PagewardenError
from pagewarden.vocab.progress import Advance
from pagewarden.workload import Workload

AGAIN = 1.0
"""Seconds between two questions of a source in doubt."""


def migrate(
    plan: RunPlan, workload: Workload, disk: DiskFile, key: bytes, connect: Callable[[], socket], *,
    tell: Advance = lambda done, total: None, say: Callable[[str], object] = lambda what: None, look: bool = True,
    longest: float = math.inf,
) -> Migration:  # fmt: skip
    """Run the guest of a plan, and move it meanwhile to who answers at `connect`: behind the last doorbell but one it
    waits for that. Where it does not go it runs to its end here, and the account says why.

    say: hears that the source is in doubt, and asks. look: as of `run`. longest: as of Departure. Raises as `run` does,
    and what `connect` raises at first.
    """
    warm()
    content = disk.read()
    described = describe(checked(plan), workload, disk, content)
    half(described)  # what has no half way has no way either
    with live_machine(plan, described, disk) as machine, closing(connect()) as connection:
        departure = Departure(machine.memory, key, tell=tell, longest=longest)
        leaving = _Leaving(machine, disk, departure, described.batches - 1, connect, say)
        found = run_on(
            machine, plan, described, disk, content, look, lambda: leaving.run(connection), lambda: departure.gone
        )
        return Migration(
            "source", departure.gone, leaving.why, departure.pages, departure.rounds,
            departure.downtime if departure.gone else None, departure.not_followed, found,
        )  # fmt: skip


@dataclass
class _Leaving:
    """A guest in a thread of its own, and its departure in this one."""

    machine: LiveMachine
    disk: DiskFile
    departure: Departure
    last: int
    """The doorbell that it does not pass before that is over."""
    connect: Callable[[], socket]
    say: Callable[[str], object]
    why: str = ""
    _thread: threading.Thread | None = None
    _outcome: list[GuestReport] = field(default_factory=list)
    _error: list[BaseException] = field(default_factory=list)

    def run(self, connection: socket) -> GuestReport:
        """Its end here, or how far it came here."""
        self.machine.pauses_at = self.last
        self._begin()
        try:
            try:
                self.departure.send(connection, self._stop, self._go_on)
            except InDoubt as doubt:
                self._settle(doubt)
            except Refused as refusal:
                self.why = str(refusal)
            if self.departure.gone:
                return self._outcome[-1]
            self.machine.pauses_at = 0
            self._end()
            while self.machine.stands is not None:  # it had come to the last doorbell, or stood when it was to stay
                self._go_on()
                self._end()
            return self._outcome[-1]
        finally:
            if self._thread is not None and self._thread.is_alive():
                while self._thread.is_alive():
                    self.machine.kick()
                    self._thread.join(0.05)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._serve, name="pagewarden-guest", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self._outcome.append(self.machine.run())
        except BaseException as error:  # it is this thread's no more than the guest is
            self._error.append(error)

    def _end(self) -> None:
        assert self._thread is not None
        self._thread.join()
        if self._error:
            raise self._error[0]

    def _stop(self) -> bytes:
        self.machine.pauses_at = 1
        self._end()
        assert self.machine.stands is not None
        self.disk.release()
        return encoded(self.machine.stands)

    def _go_on(self) -> None:
        self.disk.take(wait=True)
        self.machine.pauses_at = 0
        self.machine.go_on()
        self._begin()

    def _settle(self, doubt: InDoubt) -> None:
        """It neither runs nor goes until the destination, or who has its tickets, has said where it is."""
        self.say(f"{doubt}; asking again and again, the guest stands still (Ctrl-C gives it up)")
        while True:
            try:
                with closing(self.connect()) as connection:
                    there = self.departure.settle(connection)
                break
            except PagewardenError:
                threading.Event().wait(AGAIN)
        if not there:
            self.why = f"{doubt.why}; it did not"
            self._go_on()
