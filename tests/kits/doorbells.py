"""Something happens at a point of progress of a run: before its n-th doorbell."""

from collections.abc import Callable, Mapping

from pagewarden.studies.run.machine import Meter


class AtDoorbells(Meter):
    """machine.Meter that acts before some doorbells, by their number from 0, and changes nothing else."""

    def __init__(self, acts: Mapping[int, Callable[[], object]]) -> None:
        self._acts, self.rung = acts, 0

    def device(self, notify: Callable[[int], None]) -> Callable[[int], None]:
        def rung(queue: int) -> None:
            if self.rung in self._acts:
                self._acts[self.rung]()
            self.rung += 1
            notify(queue)

        return rung
