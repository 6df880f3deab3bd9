"""Random requests of which each is followed by others (rw=randread:8): fio 3.33, io_u.c, get_next_block,
get_next_seq_offset."""

from dataclasses import dataclass

import numpy as np

from pagewarden.workload.fio.places import MAX_BLOCKS
from pagewarden.workload.lines import Bools, Int64s

SEED = 0xB1899BED
"""FIO_RANDSEED, which is multiplied with the number of the job (randrepeat=1)."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Of each `length` requests the first lies at a random one of the file's whole `blocks`, the others behind the last
    one of their direction, or all on the `same`. Behind the last block a further place is drawn; with a `tail`, bytes
    that are no whole block, a request is tried there, finds no room, and ends the loop. So their number depends on
    their places, and these are fio's own.
    """

    length: int
    same: bool
    tail: bool
    blocks: int

    def places(self, write: Bools, job: int, mapped: bool, again: bool) -> Int64s:
        """The blocks of requests, fewer where the loop ends. job: its number, from 1; mapped: none is drawn twice;
        again: the loop begins again where it ends."""
        from pagewarden.workload.fio.taus88 import follow

        out = np.zeros(len(write), np.int64)
        used = np.zeros(self.blocks if mapped and self.blocks <= MAX_BLOCKS else 0, np.bool_)
        shape = (self.blocks, self.length, 0 if self.same else 1, self.tail, again)
        return out[: follow(write, used, SEED * job % 2**32, shape, out)]
