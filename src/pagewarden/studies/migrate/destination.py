"""The side that a guest comes to: it waits, believes who has the key about the guest's bytes, and runs the rest."""

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from pagewarden.guest.program import Program
from pagewarden.keep.moving import Callers, Tickets
from pagewarden.memory import PrivateMemory
from pagewarden.studies.migrate.plan import Migration, checked
from pagewarden.studies.run.disk import DiskFile
from pagewarden.studies.run.machine import LiveMachine, chosen_cpu, live_machine, memory_for
from pagewarden.studies.run.one import run_on
from pagewarden.studies.run.paused import decoded, memory_size
from pagewarden.studies.run.plan import RunPlan, describe
from pagewarden.studies.run.warm import warm
from pagewarden.vocab import PAGE_SIZE, PagewardenError, UserMistake
from pagewarden.workload import Workload


def arrive(
    plan: RunPlan, workload: Workload, disk: DiskFile, key: bytes, tickets: Tickets, listener: socket.socket, *,
    say: Callable[[str], object] = lambda what: None, look: bool = True,
) -> Migration:  # fmt: skip
    """Wait for the guest of a plan, and run what is left of it. Who comes and is refused is told so, and waited is on;
    sources in doubt are answered, while the guest runs as well.

    say: hears why somebody was refused. Raises as `run` does.
    """
    warm()
    content = disk.read()
    described = describe(checked(plan), workload, disk, content)
    with Callers(listener, key, say=say) as callers, ExitStack() as opened:
        coming = _Coming(plan, described, disk, opened)
        arrival = None
        while arrival is None:
            caller = callers.next()
            assert caller is not None
            with caller.connection:
                try:
                    arrival = caller.served(tickets, coming.memory, coming.ready)
                except PagewardenError as error:
                    coming.give_back()
                    say(f"refused who came: {error}")
        if arrival.interrupted is not None:
            raise arrival.interrupted
        machine = coming.machine[0]
        opened.enter_context(_Answers(callers, tickets))
        found = run_on(machine, plan, described, disk, content, look)
        return Migration("destination", True, "", arrival.pages, None, None, "", found)


@dataclass
class _Coming:
    """What a guest comes into: nothing of it is there before, and nothing stays where it did not come."""

    plan: RunPlan
    described: Program
    disk: DiskFile
    opened: ExitStack
    machine: list[LiveMachine] = field(default_factory=list)

    def memory(self, size: int) -> PrivateMemory:
        wanted = memory_size(self.described)
        if size != wanted:
            raise UserMistake(
                f"a guest of {size // PAGE_SIZE} pages comes, and one of {wanted // PAGE_SIZE} is waited for: give "
                "both sides the same requests and design"
            )
        return memory_for(self.plan, chosen_cpu(self.plan.cpu)[0], self.described)[0]

    def ready(self, memory: PrivateMemory, state: bytes) -> None:
        """It stands at the source, which has let go of the disk."""
        paused = decoded(state, memory.size, self.described, "what came")
        self.disk.take()
        came = memory, paused
        self.machine.append(self.opened.enter_context(live_machine(self.plan, self.described, self.disk, came=came)))

    def give_back(self) -> None:
        self.machine.clear()
        self.opened.pop_all().close()
        self.disk.release()


class _Answers:
    """While the guest runs: sources in doubt are answered, and no other guest is taken."""

    def __init__(self, callers: Callers, tickets: Tickets) -> None:
        self._callers, self._tickets = callers, tickets
        self._thread = threading.Thread(target=self._answer, name="pagewarden-tickets", daemon=True)

    def _answer(self) -> None:
        with suppress(OSError):  # nobody can connect any more
            while (caller := self._callers.next()) is not None:
                with caller.connection, suppress(PagewardenError):
                    caller.served(self._tickets, _full)

    def __enter__(self) -> "_Answers":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._callers.stop()
        self._thread.join()


def _full(size: int) -> PrivateMemory:
    raise UserMistake("a guest has come here already, and another one finds no room: start another destination")
