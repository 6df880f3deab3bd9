"""Requests drawn from jobs: fio's sizes, mix, limits and regions, with random numbers of our own.

The same file and seed give the same requests; they are not fio's own sequence. Compared with the logs of fio 3.33:
number of requests and of bytes, shares of sizes and directions, each block once a pass, requests cut short by the map.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import UserMistake
from pagewarden.workload.fio.job import MAX_DRAWN, FioJob
from pagewarden.workload.fio.places import Map
from pagewarden.workload.lines import Bools, Int64s

BATCH = 1 << 16
"""Requests drawn at once."""
OWN_LOOPS = 64
"""Loops that are drawn one by one; further ones repeat them."""

Columns: TypeAlias = tuple[Bools, Int64s, Int64s]
"""write, offset and length of requests."""


def draw(job: FioJob, copy: int, order: int) -> Columns:
    """The requests of one copy of a job; `order` is the job's place in its file. UserMistake for too many."""
    rng = np.random.default_rng([job.seed, order, copy])
    loops = [_loop(job, rng, order + copy + 1) for _ in range(min(job.loops, OWN_LOOPS))]
    again = -(-job.loops // len(loops))
    _check(again * sum(len(length) for _, _, length in loops), job)
    parts = [loops[i % len(loops)] for i in range(job.loops)]
    write, offset, length = (np.concatenate(column) for column in zip(*parts, strict=True))
    return write, offset + job.offset + job.step * copy, length


def _loop(job: FioJob, rng: np.random.Generator, number: int) -> Columns:
    """One loop: the files take turns until the limit of all together, then what was written is read again."""
    if job.files == 1:
        write, offset, length = _file(job, rng, number)
    else:
        each = -(-max(job.limit, job.region) // job.files) if job.limit > job.region else job.region // job.files
        one = replace(job, region=job.region // job.files, limit=each)
        found = (_file(one, rng, number) for _ in range(job.files))
        write, offset, length = interleave((w, o + i * one.region, n) for i, (w, o, n) in enumerate(found))
        stop = int(np.searchsorted(np.cumsum(length), job.limit)) + 1
        stop = min(stop, job.number or stop)
        write, offset, length = write[:stop], offset[:stop], length[:stop]
    if job.verified:
        again = np.unique(offset[write], return_index=True)[1]
        again.sort()
        write = np.append(write, np.zeros(len(again), bool))
        offset, length = (np.append(column, column[write[: len(column)]][again]) for column in (offset, length))
    return write, offset, length


def _file(job: FioJob, rng: np.random.Generator, number: int) -> Columns:
    if job.mapped and job.largest > job.smallest:
        return _mapped(job, rng)
    write, length = _lengths(job, rng)
    for holes, writes in zip(job.holes or (), (True, False), strict=False):
        stop = np.searchsorted(np.cumsum(write == writes), holes.most, side="right")
        write, length = write[:stop], length[:stop]
    if job.runs:
        offset = job.runs.places(write, number, job.mapped, job.limit > job.region) * job.smallest
        return write[: len(offset)], offset, length[: len(offset)]
    return write, _random_offsets(job, write, length, rng) if job.random else _in_order(job, write, length), length


def _check(requests: float, job: FioJob) -> None:
    if requests > MAX_DRAWN:
        raise UserMistake(
            f"job [{job.name}] makes some {requests:,.0f} requests, more than the {MAX_DRAWN:,} that are drawn at "
            "once; set number_ios or io_size"
        )


def _batch(job: FioJob, rng: np.random.Generator, n: int) -> tuple[Bools, Int64s]:
    """Directions and lengths of the next n requests."""
    write = rng.random(n) * 100 >= job.reads
    return write, np.where(write, job.write_sizes.draw(rng, n), job.read_sizes.draw(rng, n))


def _lengths(job: FioJob, rng: np.random.Generator) -> tuple[Bools, Int64s]:
    """Directions and lengths until the limit in bytes or requests is reached."""
    parts: list[tuple[Bools, Int64s]] = []
    moved, left = 0, job.number or 2**62
    limit = job.limit
    if job.mapped and limit == job.region and not job.runs:
        limit -= limit % job.smallest  # a pass has whole blocks
    while moved < limit and left:
        write, length = _batch(job, rng, min(BATCH, left))
        ends = moved + np.cumsum(length)
        last = int(np.searchsorted(ends, limit))  # the request that reaches the limit
        if last < len(ends):
            write, length = _last(job, write[: last + 1], length[: last + 1], int(ends[last] - length[last]))
        parts.append((write, length))
        moved, left = int(ends[min(last, len(ends) - 1)]), left - len(ends)
        _check(len(parts) * BATCH - BATCH, job)
    if not parts:
        return np.zeros(0, bool), np.zeros(0, np.int64)
    return np.concatenate([write for write, _ in parts]), np.concatenate([length for _, length in parts])


def _last(job: FioJob, write: Bools, length: Int64s, before: int) -> tuple[Bools, Int64s]:
    """The last request must end in the region: it is cut to fit, or left out. `before`: bytes moved before it.

    At the end of a pass fio goes on only if a longest request is still allowed.
    """
    if job.holes or job.runs or (job.random and not job.mapped):
        return write, length
    sizes = job.write_sizes if write[-1] else job.read_sizes
    usable = job.region - job.region % sizes.smallest
    at, wanted = before % usable, int(length[-1])
    if at == 0 and before > 0:
        fits = wanted if job.limit - before >= job.largest else 0
    else:
        fits = wanted if at + wanted <= usable else sizes.fit(usable - at)
    return (write, np.append(length[:-1], fits)) if fits else (write[:-1], length[:-1])


def _in_order(job: FioJob, write: Bools, length: Int64s) -> Int64s:
    """Reads and writes each go on from their own last end, and start again at the region's end."""
    offset = np.zeros(len(length), np.int64)
    if job.holes and job.holes[0].hole > 0:
        for holes, mine in zip(job.holes, (write, ~write), strict=True):
            offset[mine] = holes.places(int(mine.sum()))
        return offset
    for mine, sizes in ((write, job.write_sizes), (~write, job.read_sizes)):
        usable = job.region - job.region % sizes.smallest
        offset[mine] = (np.cumsum(length[mine]) - length[mine]) % usable
    return np.minimum(offset, job.region - length)


def _random_offsets(job: FioJob, write: Bools, length: Int64s, rng: np.random.Generator) -> Int64s:
    """Multiples of the smallest size, so that the request ends in the region; one size with a map covers all blocks."""
    if job.mapped:
        return _each_block_once(job.region // job.smallest, len(length), rng) * job.smallest
    align = np.where(write, job.write_sizes.smallest, job.read_sizes.smallest)
    drawn: Int64s = (rng.random(len(length)) * ((job.region - length) // align + 1)).astype(np.int64) * align
    return drawn


def _each_block_once(blocks: int, n: int, rng: np.random.Generator) -> Int64s:
    """n blocks; none comes again before all have come."""
    if n <= blocks:
        return rng.choice(blocks, n, replace=False).astype(np.int64) if blocks < 8 * n else _few(blocks, n, rng)
    passes = np.tile(np.arange(blocks), (-(-n // blocks), 1))
    return rng.permuted(passes, axis=1).ravel()[:n].astype(np.int64)


def _few(blocks: int, n: int, rng: np.random.Generator) -> Int64s:
    """n different blocks of far more: drawn again where one came twice, without a list of them all."""
    found = np.zeros(0, np.int64)
    while len(found) < n:
        drawn = np.append(found, rng.integers(blocks, size=n - len(found)))
        found = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return found


def _mapped(job: FioJob, rng: np.random.Generator) -> Columns:
    """Mixed sizes with a map: the first free block at or after a drawn one, cut short where a used one follows."""
    places = Map(job.region // job.smallest, job.smallest)
    parts: list[Columns] = []
    left = job.number or 2**62
    while left:
        n = min(BATCH, left)
        write, length = _batch(job, rng, n)
        start, taken = places.take(length, rng.integers(places.blocks, size=n), job.limit, job.largest)
        parts.append((write[: len(start)], start, taken))
        left -= n
        if len(start) < n:
            break
        _check(len(parts) * BATCH, job)
    write, offset, length = (np.concatenate(column) for column in zip(*parts, strict=True))
    return write, offset, length


def interleave(parts: Iterable[Columns]) -> Columns:
    """Jobs that run side by side take turns, one request each, until all are done."""
    columns = list(parts)
    order = turns([len(length) for _, _, length in columns])[1]
    write, offset, length = (np.concatenate(column)[order] for column in zip(*columns, strict=True))
    return write, offset, length


def turns(counts: Iterable[int]) -> tuple[NDArray[np.int32], Int64s]:
    """The turn of each of the concatenated requests of jobs with so many each that take turns, and their order."""
    turn = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    return turn, np.argsort(turn, kind="stable")
