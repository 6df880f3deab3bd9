"""Something happens at a point of progress of a run: before its n-th doorbell."""

from collections.abc import Callable, Mapping

from pagewarden.guest.hypercalls import GuestReport
from pagewarden.port import Memory
from pagewarden.studies.run.host import RequestPath


class AtDoorbells:
    """machine.Meter that acts before some doorbells, by their number from 0, and changes nothing else."""

    def __init__(self, acts: Mapping[int, Callable[[], object]]) -> None:
        self._acts, self.rung = acts, 0

    def memory(self, memory: Memory) -> Memory:
        return memory

    def path(self, path: RequestPath) -> RequestPath:
        return path

    def device(self, notify: Callable[[int], None]) -> Callable[[int], None]:
        def rung(queue: int) -> None:
            if self.rung in self._acts:
                self._acts[self.rung]()
            self.rung += 1
            notify(queue)

        return rung

    def run(self, go: Callable[[], GuestReport]) -> GuestReport:
        return go()
