"""Block requests out of flat chains: header, data and status found, headers judged. Compiled, plain loops only.

A chain is a stream of readable bytes, then one of writable bytes; how they are cut into descriptors says nothing
(virtio 1.2, 2.7.4). The first 16 readable bytes are the header, the last writable one is the status, the rest is data.
"""

from typing import Any

import numpy as np

from pagewarden.abi import virtio_blk as blk
from pagewarden.abi.virtio import VIRTQ_DESC_F_WRITE
from pagewarden.virtio import faults
from pagewarden.virtio.chains import ADDR, FLAGS, LEN, LIST, PLACES, SIZE_MAX, VERDICT
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit

HEADER = 16
"""Bytes of virtio_blk_req before the data."""
REQUEST_MAX = 32 << 20
"""Most bytes of data in a request: size_max times seg_max never exceeds it."""
PIECES = 16384
"""Most places that a batch looks at before it commits: header parts and a byte of each page of data."""
RANGES_MAX = 16
"""Most ranges of a discard or write-zeroes request (max_discard_seg, max_write_zeroes_seg)."""
OUT_AT, IN_AT, END, OUT_BYTES, IN_BYTES, STATUS, START = range(7)
"""Columns of a request, int64: segments [OUT_AT, IN_AT) are data to the device, [IN_AT, END) from it; STATUS is a gpa;
classify sets START, the first sector."""
FIELDS = 7
OP, FILE_AT, BEGIN, STOP, FIRST, COUNT, BYTES = range(7)
"""Columns of a run, int64: requests FIRST .. FIRST + COUNT - 1 do one thing, with segments [BEGIN, STOP). The
first four are as port.VectoredView.transfer has them, for VIRTIO_BLK_T_IN is 0 and VIRTIO_BLK_T_OUT is 1."""
RUN_FIELDS = 7


def _append(places: Any, n: int, floor: int, addr: int, length: int) -> int:
    """A list of n places with one more, or with the last one longer where they touch; nothing before floor grows."""
    if n > floor and places[ADDR, n - 1] + places[LEN, n - 1] == addr:
        places[LEN, n - 1] += length
        return n
    places[ADDR, n], places[LEN, n] = addr, length
    return n + 1


append: Any = njit(_append)


def _frame(
    flat: Any, starts: Any, chains: int, segments: Any, requests: Any, pieces: Any
) -> tuple[int, int, int, int, int]:
    """Fill segments (int64 (2, DESCRIPTORS)), requests (BATCH, FIELDS) and pieces (2, PIECES): first the header parts
    of all chains in order, then one byte of each page that the batch touches; items: pieces. Verdict as in chains."""
    n = parts = 0
    for chain in range(chains):
        missing, to_device, from_device = HEADER, 0, 0
        begin = into = n
        for k in range(starts[chain], starts[chain + 1]):
            addr, length = flat[ADDR, k], flat[LEN, k]
            if flat[FLAGS, k] & VIRTQ_DESC_F_WRITE:
                if from_device == 0:
                    into = n
                from_device += length
                n = append(segments, n, into, addr, length)
                continue
            if from_device:
                return chain, faults.ORDER, chain, addr, parts
            take = min(missing, length)
            if take:
                parts = append(pieces, parts, 0, addr, take)
                missing -= take
            if length > take:
                n = append(segments, n, begin, addr + take, length - take)
                to_device += length - take
        if missing:
            return chain, faults.SHORT_HEADER, chain, missing, parts
        if from_device == 0:
            return chain, faults.NO_STATUS, chain, to_device + HEADER, parts
        if to_device + from_device - 1 > REQUEST_MAX:
            return chain, faults.TOO_BIG, chain, to_device + from_device - 1, parts
        segments[LEN, n - 1] -= 1
        status = segments[ADDR, n - 1] + segments[LEN, n - 1]
        n -= int(segments[LEN, n - 1] == 0)
        row = requests[chain]
        row[OUT_AT], row[IN_AT], row[END] = begin, into, n
        row[OUT_BYTES], row[IN_BYTES], row[STATUS] = to_device, from_device - 1, status
    result: tuple[int, int, int, int, int] = probe(segments, requests, chains, pieces, parts)
    return result


def _probe(segments: Any, requests: Any, chains: int, pieces: Any, parts: int) -> tuple[int, int, int, int, int]:
    """One byte of each page of data and status; a page met lately is not listed again."""
    known = np.full(256, -1, np.int64)
    for chain in range(chains):
        row = requests[chain]
        for k in range(row[OUT_AT], row[END] + 1):
            if k < row[END]:
                start, length = segments[ADDR, k], segments[LEN, k]
            else:
                start, length = row[STATUS], 1
            for page in range(start // PAGE_SIZE, (start + length - 1) // PAGE_SIZE + 1):
                if known[page & 255] == page:
                    continue
                if parts == PIECES:
                    return chain, faults.NONE, 0, 0, parts
                known[page & 255] = page
                pieces[ADDR, parts], pieces[LEN, parts] = max(start, page * PAGE_SIZE), 1
                parts += 1
    return chains, faults.NONE, 0, 0, parts


probe: Any = njit(_probe)


def _judge(kind: int, sector: int, row: Any, capacity: int, kinds: int, sealed: bool) -> tuple[int, int]:
    """Status and bytes that the device will write into the data of a request with this header.

    kinds: a bit for each VIRTIO_BLK_T_* below 32 that the device does. sealed: the disk cannot be written.
    """
    if not 0 <= kind < 32 or not kinds >> kind & 1:
        return blk.VIRTIO_BLK_S_UNSUPP, 0
    into, out = row[IN_BYTES], row[OUT_BYTES]
    good, filled = True, 0
    if kind == blk.VIRTIO_BLK_T_IN or kind == blk.VIRTIO_BLK_T_OUT:
        length = into if kind == blk.VIRTIO_BLK_T_IN else out
        good = length > 0 and length % blk.SECTOR == 0 and 0 <= sector <= capacity - length // blk.SECTOR
        good = good and not (sealed and kind == blk.VIRTIO_BLK_T_OUT)
        filled = length if kind == blk.VIRTIO_BLK_T_IN else 0
    elif kind == blk.VIRTIO_BLK_T_GET_ID:
        good, filled = into >= blk.VIRTIO_BLK_ID_BYTES, blk.VIRTIO_BLK_ID_BYTES
    elif kind == blk.VIRTIO_BLK_T_DISCARD or kind == blk.VIRTIO_BLK_T_WRITE_ZEROES:
        good = 0 < out <= RANGES_MAX * 16 and out % 16 == 0
    return (blk.VIRTIO_BLK_S_OK, filled) if good else (blk.VIRTIO_BLK_S_IOERR, 0)


judge: Any = njit(_judge)


def _classify(
    headers: Any,
    requests: Any,
    heads: Any,
    chains: int,
    capacity: int,
    kinds: int,
    sealed: bool,
    runs: Any,
    statuses: Any,
    used: Any,
    marks: Any,
) -> tuple[int, int]:
    """Judge each header and put what is to be done into runs; how many runs and marks there are.

    headers: int64 (2 * chains); runs: int64 (BATCH, RUN_FIELDS); statuses: uint8 (BATCH); used: uint32 (2 * BATCH),
    virtq_used_elem for a batch in which all goes well; marks: int64 (2, BATCH), where the status bytes go.
    """
    n = put = 0
    for chain in range(chains):
        row = requests[chain]
        kind, sector = headers[2 * chain] & 0xFFFFFFFF, headers[2 * chain + 1]
        row[START] = sector
        status, filled = judge(kind, sector, row, capacity, kinds, sealed)
        statuses[chain] = status
        used[2 * chain] = heads[chain]
        used[2 * chain + 1] = filled + 1 if filled == row[IN_BYTES] else filled
        put = append(marks, put, 0, row[STATUS], 1)
        if status != blk.VIRTIO_BLK_S_OK:
            continue
        begin, stop, length = row[OUT_AT], row[IN_AT], row[OUT_BYTES]
        if kind == blk.VIRTIO_BLK_T_IN or kind == blk.VIRTIO_BLK_T_GET_ID:
            begin, stop, length = row[IN_AT], row[END], row[IN_BYTES]
        if n and extends(runs[n - 1], kind, chain, sector * blk.SECTOR, begin, stop):
            runs[n - 1, COUNT] += 1
            runs[n - 1, STOP] = stop
            runs[n - 1, BYTES] += length
            continue
        run = runs[n]
        run[OP], run[FIRST], run[COUNT], run[FILE_AT] = kind, chain, 1, sector * blk.SECTOR
        run[BEGIN], run[STOP], run[BYTES] = begin, stop, length
        n += 1
    return n, put


def _extends(run: Any, kind: int, chain: int, file_at: int, begin: int, stop: int) -> bool:
    """Whether a request goes on where the run before it ends: a flush after a flush, or the next sectors."""
    if run[OP] != kind or run[FIRST] + run[COUNT] != chain:
        return False
    if kind == blk.VIRTIO_BLK_T_FLUSH:
        return True
    if kind != blk.VIRTIO_BLK_T_IN and kind != blk.VIRTIO_BLK_T_OUT:
        return False
    return bool(run[FILE_AT] + run[BYTES] == file_at and run[STOP] == begin and stop - run[BEGIN] <= SIZE_MAX)


extends: Any = njit(_extends)
frame: Any = njit(f"{VERDICT}({PLACES},{LIST},i8,{PLACES},{PLACES},{PLACES})")(_frame)
classify: Any = njit(f"UniTuple(i8,2)({LIST},{PLACES},{LIST},i8,i8,i8,b1,{PLACES},u1[::1],u4[::1],{PLACES})")(_classify)
