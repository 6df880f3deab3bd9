"""Requests in order that leave holes between them (rw=read:64k): how many have room, and where they lie."""

from dataclasses import dataclass

import numpy as np

from pagewarden.workload.fio.units import MAX
from pagewarden.workload.lines import Int64s


@dataclass(frozen=True, slots=True)
class Holes:
    """Requests of one direction and size (bytes) that each leave a hole behind them, or go back by it, in a file that
    ends somewhere. Where a hole reaches beyond that end they go round, and begin as far behind the offset as that lies
    behind the file's start (fio 3.33, io_u.c, get_next_seq_offset); a request that has no room ends the loop.
    """

    size: int
    hole: int
    offset: int
    end: int
    round: bool = True  # whether they go round at all

    def _count(self, start: int) -> tuple[int, bool]:
        """Requests of a round that begins `start` behind the offset, and whether another one follows."""
        each, room = self.size + self.hole, self.end - self.offset - self.size - start
        beyond = -(-(self.end - start) // each)
        fitting, filled = room // each + 1, -(-room // each) + 1
        return max(1, min(beyond, fitting, filled)), self.round and beyond <= fitting and beyond < filled

    @property
    def most(self) -> int:
        """Requests until one has no room; MAX: they go round."""
        if self.hole < 0:
            return MAX
        (first, again), (later, ever) = self._count(0), self._count(self.offset)
        return first if not again else MAX if ever else first + later

    def places(self, count: int) -> Int64s:
        """Where so many requests lie, bytes behind the offset."""
        turn = np.arange(count)
        first, later = self._count(0)[0], self._count(self.offset)[0]
        again = turn >= first
        turn[again] = (turn[again] - first) % later
        placed: Int64s = turn * (self.size + self.hole) + again * self.offset
        return placed
