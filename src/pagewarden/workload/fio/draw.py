"""The requests of a job and of its copies: what fio 3.33 makes, in its order and at its places (see issue.py)."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import UserMistake
from pagewarden.workload.fio.issue import FIRST, WRITE, issue
from pagewarden.workload.fio.job import MAX_DRAWN, FioJob
from pagewarden.workload.lines import Bools, Int64s

Columns: TypeAlias = tuple[Bools, Int64s, Int64s]
"""write, offset and length of requests."""
_SEEDS = (0, 1, 4, 6, 10, 10)
"""Places of the generators of sizes (read, write), mix, blocks and orders among fio's (fio.h, FIO_RAND_NR_OFFS)."""
_BLOCKS, _FACTOR, _REPEATED, _ALL = 3, 0x9E370001, 0xB1899BED, 2**32 - 1


def draw(job: FioJob, copy: int, number: int) -> Columns:
    """The requests of one copy of a job, which is fio's `number`th, from 1. UserMistake for too many."""
    asked = job.of_copy(copy)
    flags, offset, length = issue(asked, _seeds(job, number), MAX_DRAWN + 1)
    if len(flags) > MAX_DRAWN:
        raise UserMistake(
            f"job [{job.name}] makes more than the {MAX_DRAWN:,} requests that are drawn at once; "
            "set number_ios or io_size"
        )
    write = flags & WRITE > 0
    if asked.again:
        write, offset, length = _read_again(np.flatnonzero(flags & FIRST)[1:], write, offset, length)
    return write, offset + asked.start, length


def _seeds(job: FioJob, number: int) -> Int64s:
    """Of each generator, as fio's init.c makes them (setup_random_seeds, td_fill_rand_seeds): the low 32 bits."""
    seeds = [job.seed * _FACTOR ** (4 + place) * number + place & _ALL for place in _SEEDS]
    if job.asked.repeat:
        seeds[_BLOCKS] = _REPEATED * number & _ALL
    if job.asked.again:
        seeds[1] = seeds[0]
    return np.array(seeds)


def _read_again(ends: Int64s, *columns: NDArray[Any]) -> Columns:
    """With what was written in each pass read behind it."""
    parts = []
    for write, offset, length in zip(*(np.split(column, ends) for column in columns), strict=True):
        again = np.sort(np.unique(offset[write], return_index=True)[1])
        parts.append((write, offset, length))
        parts.append((np.zeros(len(again), bool), offset[write][again], length[write][again]))
    write, offset, length = (np.concatenate(column) for column in zip(*parts, strict=True))
    return write, offset, length


def turns(counts: Iterable[int]) -> tuple[NDArray[np.int32], Int64s]:
    """The turn of each of the concatenated requests of jobs with so many each that take turns, and their order."""
    turn = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    return turn, np.argsort(turn, kind="stable")
