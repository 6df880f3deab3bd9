"""The requests that fio makes of a job, one after the other. Without its clock: sizes and numbers end a job.

The facts are those of fio 3.33: io_u.c, get_next_offset, get_next_seq_offset, get_next_buflen, mark_random_map,
get_rw_ddir and get_next_file_rr; backend.c, do_io and keep_running; lib/axmap.c.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab.hot import compile_hot, hot, making
from pagewarden.workload.fio.taus88 import below, following, seed
from pagewarden.workload.lines import Int64s

WRITE, FIRST = 1, 2
"""Flags of a request: its direction, and that a pass begins with it."""
MIX, BLOCK, RANDOM = 2, 3, 4
"""Rows of the generators, behind those of the two directions' sizes; the last one is there for each direction."""
_FULL = 2**32 - 1
INTERPRETED = 50_000
"""More requests than so many are worth the compiler: 0.3 s, and it takes 10 at its first use."""
_TRIES = 1000
"""Sizes drawn for one request until one fits; what fio does for ever where none does."""


class FioRules(NamedTuple):
    """What decides a job's requests. Bytes, if nothing else is said; of two, the first is for reads."""

    regions: Int64s  # of each file, where requests may lie
    start: int  # of a region in its file
    end: int  # of a file, if no region reaches beyond
    size: int  # of a pass, if its files do not end before
    limit: int  # of all passes of one loop
    more: bool  # io_size asks for passes until the limit
    loops: int
    number: int  # requests of one loop; 0: as many as there are
    unit: int  # of a block of the map
    low: Int64s
    high: Int64s
    step: Int64s  # sizes are multiples of it
    split: NDArray[np.int64]  # (2, n): the sizes to choose from
    share: NDArray[np.int64]  # (2, n): per cent of each and those before it; 0: there are no more
    align: Int64s  # of a random request
    reads: int  # per cent
    random: Int64s  # per cent of the requests that are not in order; -1: the job's are in order
    run: int  # requests of which the first is placed by `random`, the others behind it
    same: bool  # ... or all at the same place
    hole: int  # behind each request in order; below 0: back by so much
    mapped: bool  # no block comes again before all have come
    cut: bool  # a request ends where a used block begins
    again: bool  # what is written in a pass is read after it
    repeat: bool  # all passes draw the same numbers


class _At(NamedTuple):
    """How far it has come."""

    begin: NDArray[np.int64]  # (files, 2): of the last request of each direction, behind the region's start; -1: none
    end: NDArray[np.int64]  # (files, 2)
    issued: Int64s  # requests of each direction
    now: Int64s
    """Direction, requests of it until another one may be drawn, requests until a random one, and whether one in order
    failed last: then fio forgets the blocks of the next one, as it does of those in order (IO_U_F_BUSY_OK stays)."""
    used: NDArray[np.uint32]  # (files, n): a bit for each block


def _at_start(asked: FioRules) -> _At:
    """Before its first request."""
    files, blocks = len(asked.regions), int(asked.regions.max()) // asked.unit if asked.mapped else 0
    begin, end = np.full((files, 2), -1), np.zeros((files, 2), np.int64)
    used = np.zeros((files, blocks // 32 + 2 + int(asked.high.max()) // asked.unit // 32), np.uint32)
    return _At(begin, end, np.zeros(2, np.int64), np.array([0, 0, 1, 0]), used)


@hot
def _free(used: Any, block: int, blocks: int) -> int:
    """The first block from this one on that was not used; `blocks` if there is none."""
    while block < blocks:
        word = np.int64(used[block >> 5])
        if word == _FULL:
            block = (block | 31) + 1
            continue
        word >>= block & 31
        while word & 1:
            word >>= 1
            block += 1
        if block & 31 or not np.int64(used[min(block, blocks - 1) >> 5]) & 1:
            return min(block, blocks)
    return blocks


@hot
def _mark(used: Any, block: int, wanted: int) -> int:
    """Use so many blocks, or fewer where one was used. How many."""
    for n in range(wanted):
        word, bit = (block + n) >> 5, 1 << ((block + n) & 31)
        if np.int64(used[word]) & bit:
            return n
        used[word] = np.int64(used[word]) | bit
    return wanted


@hot
def _drawn(asked: Any, at: Any, random: Any, file: int, way: int) -> int:
    """A random place; below 0 if there is none."""
    region, align = asked.regions[file], asked.align[way]
    last = (region - max(0, asked.low[way] - align)) // align
    if last <= 0:
        return -1
    block, blocks = below(random[BLOCK], last), region // asked.unit
    if asked.mapped:
        block = _free(at.used[file], block, blocks)
        if block == blocks:
            block = _free(at.used[file], 0, blocks)
        if block == blocks:
            return -1
    return int(block * align)


@hot
def _in_order(asked: Any, at: Any, file: int, way: int) -> int:
    """Behind the last request of this direction; below 0 at the file's end."""
    region, start, hole, place = asked.regions[file], asked.start, asked.hole, at.end[file, way]
    end = max(asked.end, region + start)
    if place >= region:
        return -1
    if place == 0 and start > 0 > hole:
        place = region - start
    if place and hole:
        place += hole
        if not 0 <= place < end:
            place = start if hole > 0 else region + hole
    return int(place)


@hot
def _place(asked: Any, at: Any, random: Any, file: int, way: int) -> tuple[int, bool]:
    """Where the next request lies, and whether its blocks are used by it."""
    at.now[2] -= 1
    first = at.now[2] == 0
    if first:
        at.now[2] = asked.run
    share = asked.random[way]
    if first and share >= 0 and (share == 100 or below(random[RANDOM + way], 100) < share):
        return _drawn(asked, at, random, file, way), True
    if not first and asked.same:
        return max(0, at.begin[file, way]), False
    place = _in_order(asked, at, file, way)
    if place < 0 <= share:
        place = _drawn(asked, at, random, file, way)
    return place, False


@hot
def _length(asked: Any, random: Any, way: int, room: int) -> int:
    """Bytes of a request with so much room; 0 if none has."""
    low, high, split, share = asked.low[way], asked.high[way], asked.split[way], asked.share[way]
    if low == high:
        return int(low)
    for _ in range(_TRIES if low <= room else 0):
        drawn = following(random[way])
        length = low + int(high * (drawn / 2.0**32))
        for i in range(len(share)):
            if share[i] == 0:
                break
            length = split[i]
            if drawn // share[i] <= _FULL // 100 and length <= room:
                break
        length = min(length - length % asked.step[way], high)
        if length <= room:
            return int(length)
    return 0


@hot
def _way(asked: Any, at: Any, random: Any) -> int:
    """The direction of the next request: it changes only where its share of the requests so far is reached."""
    if asked.reads == 0 or asked.reads == 100:
        return 1 if asked.reads == 0 else 0
    before = at.now[0]
    if at.issued[before] >= at.now[1]:
        way = 0 if below(random[MIX], 100) < asked.reads else 1
        if way != before:
            at.now[1] = at.issued[before] * (asked.reads if before else 100 - asked.reads) // 100
        at.now[0] = way
    return int(at.now[0])


@hot
def _request(asked: Any, at: Any, random: Any, file: int) -> tuple[int, int, int]:
    """The next request of a file: direction, place and bytes; 0 bytes if it has no further one."""
    way, region = _way(asked, at, random), asked.regions[file]
    place, uses = _place(asked, at, random, file, way)
    length = _length(asked, random, way, region - place) if 0 <= place < region else 0
    if length == 0 or place + length > region:
        at.now[3] |= not uses
        return way, 0, 0
    uses, at.now[3] = uses and at.now[3] == 0, 0
    if uses and asked.mapped:
        smallest = asked.low[way]
        blocks = _mark(at.used[file], place // smallest, -(-length // smallest) if asked.cut else 1)
        if asked.cut:
            length = min(length, blocks * smallest)
    at.begin[file, way], at.end[file, way] = place, place + length
    return way, place, length


@hot
def _start_pass(at: Any, random: Any, seeds: Any, again: bool, repeat: bool) -> None:
    at.begin[:], at.end[:], at.now[1] = -1, 0, 0
    if again:
        at.used[:] = 0
    for i in range(0 if again and not repeat else len(seeds)):
        seed(random[i], seeds[i])


@making
def _is_over(asked: Any, loops: int, count: int, moved: int, done: Any) -> bool:
    """Whether no further pass begins, so many loops after the first pass."""
    if asked.number and count >= asked.number * asked.loops:
        return True
    return loops >= asked.loops and (asked.limit - moved < asked.high.max() or (done and not asked.more))


@making
def _longer(column: Any) -> Any:
    longer = np.empty(2 * len(column), column.dtype)
    longer[: len(column)] = column
    return longer


@making
def _issue(asked: Any, at: Any, seeds: Any, most: int) -> tuple[Any, Any, Any]:
    flags, places, lengths = np.empty(4096, np.uint8), np.empty(4096, np.int64), np.empty(4096, np.int64)
    random = np.empty((len(seeds), 3), np.int64)
    files, bases = len(asked.regions), np.cumsum(asked.regions) - asked.regions
    done, n, file, loops, count, moved, sent = np.zeros(files, np.bool_), 0, 0, 0, 0, 0, 0
    while n < most and not _is_over(asked, loops, count, moved, done.all()):
        _start_pass(at, random, seeds, n > 0, asked.repeat)
        done[:], loops, before, begun = False, loops + 1, sent, n
        while sent < asked.limit * asked.loops and sent - before < asked.size and n < most and not done.all():
            if asked.number and count >= asked.number * asked.loops:
                break
            if not done[file]:
                way, place, length = _request(asked, at, random, file)
                done[file] = length == 0
                if length:
                    if n == len(flags):
                        flags, places, lengths = _longer(flags), _longer(places), _longer(lengths)
                    flags[n], places[n], lengths[n] = way | (FIRST if n == begun else 0), bases[file] + place, length
                    n, count, sent, at.issued[way] = n + 1, count + 1, sent + length, at.issued[way] + 1
            file = file + 1 if file + 1 < files else 0
        if n == begun:
            break
        if asked.again:
            count += n - begun
        moved += (sent - before) * (2 if asked.again else 1)
    return flags[:n], places[:n], lengths[:n]


def issue(asked: FioRules, seeds: Int64s, most: int) -> tuple[NDArray[np.uint8], Int64s, Int64s]:
    """Flags, places (the files' regions one behind the other) and bytes of the requests of a job, `most` at most."""
    few = _issue(asked, _at_start(asked), seeds, INTERPRETED)
    if len(few[0]) < INTERPRETED:
        return few
    compile_hot()
    return _issue(asked, _at_start(asked), seeds, most)
