"""Requests drawn from jobs: fio's sizes, mix, limits and regions, with random numbers of our own.

The same file and seed give the same requests; they are not fio's own sequence. Compared with the logs of fio 3.33:
number of requests and of bytes, shares of sizes and directions, each block once a pass, requests cut short by the map.
"""

from collections.abc import Iterable

import numpy as np

from pagewarden.workload.fiojob import Job
from pagewarden.workload.lines import Ints, Mask

BATCH = 1 << 16
"""Requests drawn at once."""


def draw(job: Job, copy: int, order: int) -> tuple[Mask, Ints, Ints]:
    """(write, offset, length) of one copy of a job; `order` is the job's place in its file."""
    rng = np.random.default_rng([job.seed, order, copy])
    if job.mapped and _largest(job) > _smallest(job):
        write, offset, length = _mapped(job, rng)
    else:
        write, length = _lengths(job, rng)
        offset = _random_offsets(job, write, length, rng) if job.random else _sequential_offsets(job, write, length)
    return write, offset + job.offset + job.step * copy, length


def _smallest(job: Job) -> int:
    return min(job.read_sizes.smallest, job.write_sizes.smallest)


def _largest(job: Job) -> int:
    return max(job.read_sizes.largest, job.write_sizes.largest)


def _batch(job: Job, rng: np.random.Generator, n: int) -> tuple[Mask, Ints]:
    """Directions and lengths of the next n requests."""
    write = rng.random(n) * 100 >= job.reads
    return write, np.where(write, job.write_sizes.draw(rng, n), job.read_sizes.draw(rng, n))


def _lengths(job: Job, rng: np.random.Generator) -> tuple[Mask, Ints]:
    """Directions and lengths until the limit in bytes or requests is reached."""
    parts: list[tuple[Mask, Ints]] = []
    moved, left = 0, job.number or 2**62
    while moved < job.limit and left:
        write, length = _batch(job, rng, min(BATCH, left))
        ends = moved + np.cumsum(length)
        last = int(np.searchsorted(ends, job.limit))  # the request that reaches the limit
        if last < len(ends):
            write, length = _last(job, write[: last + 1], length[: last + 1], int(ends[last] - length[last]))
        parts.append((write, length))
        moved, left = int(ends[min(last, len(ends) - 1)]), left - len(ends)
    return np.concatenate([write for write, _ in parts]), np.concatenate([length for _, length in parts])


def _last(job: Job, write: Mask, length: Ints, before: int) -> tuple[Mask, Ints]:
    """The last request must end in the region: it is cut to fit, or left out. `before`: bytes moved before it.

    At the end of a pass fio goes on only if a longest request is still allowed.
    """
    if job.random and not job.mapped:
        return write, length
    sizes = job.write_sizes if write[-1] else job.read_sizes
    usable = job.region - job.region % _smallest(job)
    at, wanted = before % usable, int(length[-1])
    if at == 0 and before > 0:
        fits = wanted if job.limit - before >= _largest(job) else 0
    else:
        fits = wanted if at + wanted <= usable else sizes.fit(usable - at)
    return (write, np.append(length[:-1], fits)) if fits else (write[:-1], length[:-1])


def _sequential_offsets(job: Job, write: Mask, length: Ints) -> Ints:
    """Reads and writes each go on from their own last end, and start again at the region's end."""
    offset = np.zeros(len(length), np.int64)
    for mine, sizes in ((write, job.write_sizes), (~write, job.read_sizes)):
        usable = job.region - job.region % sizes.smallest
        offset[mine] = (np.cumsum(length[mine]) - length[mine]) % usable
    return np.minimum(offset, job.region - length)


def _random_offsets(job: Job, write: Mask, length: Ints, rng: np.random.Generator) -> Ints:
    """Multiples of the smallest size, so that the request ends in the region; one size with a map covers all blocks."""
    if job.mapped:
        return _each_block_once(job.region // _smallest(job), len(length), rng) * _smallest(job)
    align = np.where(write, job.write_sizes.smallest, job.read_sizes.smallest)
    drawn: Ints = (rng.random(len(length)) * ((job.region - length) // align + 1)).astype(np.int64) * align
    return drawn


def _each_block_once(blocks: int, n: int, rng: np.random.Generator) -> Ints:
    """n blocks; none comes again before all have come."""
    if n <= blocks:
        return rng.choice(blocks, n, replace=False).astype(np.int64)
    passes = np.tile(np.arange(blocks), (-(-n // blocks), 1))
    return rng.permuted(passes, axis=1).ravel()[:n].astype(np.int64)


def _mapped(job: Job, rng: np.random.Generator) -> tuple[Mask, Ints, Ints]:
    """Mixed sizes with a map: the first free block at or after a drawn one, cut short where a used one follows."""
    unit = _smallest(job)
    blocks = job.region // unit
    used, free, moved, left = bytearray(blocks), blocks, 0, job.number or 2**62
    found: list[tuple[bool, int, int]] = []
    while left:
        write, length = _batch(job, rng, min(BATCH, left))
        for mine, wanted, drawn in zip(
            write.tolist(), length.tolist(), rng.integers(blocks, size=len(write)).tolist(), strict=True
        ):
            if not free:
                used, free = bytearray(blocks), blocks
            if moved >= job.limit or (moved and free == blocks and job.limit - moved < _largest(job)):
                return _columns(found)
            start, count = _take(used, drawn, -(-wanted // unit))
            free -= count
            found.append((mine, start * unit, min(wanted, count * unit)))
            moved += found[-1][2]
        left -= len(write)
    return _columns(found)


def _take(used: bytearray, at: int, count: int) -> tuple[int, int]:
    """Mark up to `count` free blocks in a row, the first at or after `at` (or from 0); (first, how many)."""
    start = used.find(0, at)
    if start < 0:
        start = used.find(0)
    stop = used.find(1, start, start + count)
    stop = min(start + count, len(used)) if stop < 0 else stop
    used[start:stop] = b"\1" * (stop - start)
    return start, stop - start


def _columns(found: list[tuple[bool, int, int]]) -> tuple[Mask, Ints, Ints]:
    write, offset, length = zip(*found, strict=True)
    return np.array(write, bool), np.array(offset, np.int64), np.array(length, np.int64)


def interleave(parts: Iterable[tuple[Mask, Ints, Ints]]) -> tuple[Mask, Ints, Ints]:
    """Jobs that run side by side take turns, one request each, until all are done."""
    columns = list(parts)
    turn = np.concatenate([np.arange(len(length)) for _, _, length in columns])
    order = np.argsort(turn, kind="stable")
    write, offset, length = (np.concatenate(column)[order] for column in zip(*columns, strict=True))
    return write, offset, length
