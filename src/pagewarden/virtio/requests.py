"""Block requests out of flat chains: header, data and status found, headers judged. Compiled, plain loops only.

A chain is a stream of readable bytes, then one of writable bytes; how they are cut into descriptors says nothing
(virtio 1.2, 2.7.4). The first 16 readable bytes are the header, the last writable one is the status, the rest is data.
"""

from typing import Any

from numba import types

from pagewarden.abi import virtio_blk as blk
from pagewarden.abi.virtio import VIRTQ_DESC_F_WRITE
from pagewarden.kernel.guarded import load64
from pagewarden.virtio import faults
from pagewarden.virtio.chains import bad
from pagewarden.virtio.work import (
    ADDR,
    BEGIN,
    BYTES,
    COUNT,
    END,
    FILE_AT,
    FIRST,
    FLAGS,
    IN_AT,
    IN_BYTES,
    LEN,
    OP,
    OUT_AT,
    OUT_BYTES,
    PIECES,
    RECORD,
    SIZE_MAX,
    START,
    STATUS,
    STOP,
)
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit

HEADER = 16
"""Bytes of virtio_blk_req before the data."""
REQUEST_MAX = 32 << 20
"""Most bytes of data in a request: size_max times seg_max never exceeds it."""
RANGE = blk.virtio_blk_discard_write_zeroes.itemsize
"""Bytes of the one range that a discard or write-zeroes request has: max_discard_seg and max_write_zeroes_seg say 1.
More is answered as QEMU's block/export/virtio-blk-handler.c answers it, whose own test asks (vhost-user-blk-test.c)."""


def _append(places: Any, n: int, floor: int, addr: int, length: int) -> int:
    """A list of n places with one more, or with the last one longer where they touch; nothing before floor grows."""
    if n > floor and places[ADDR, n - 1] + places[LEN, n - 1] == addr:
        places[LEN, n - 1] += length
        return n
    places[ADDR, n], places[LEN, n] = addr, length
    return n + 1


append: Any = njit(_append)


def _frame(x: Any) -> int:
    """Fill segments, rows and pieces: first the header parts of all chains in order, then one byte of each page that
    the batch touches; how many pieces, or -1."""
    n = parts = 0
    flat, starts, segments, pieces = x.flat[x.wide], x.bounds[x.wide], x.segments, x.pieces
    for chain in range(x.chains):
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
                return int(bad(x, chain, faults.ORDER, addr))
            take = min(missing, length)
            if take:
                parts = append(pieces, parts, 0, addr, take)
                missing -= take
            if length > take:
                n = append(segments, n, begin, addr + take, length - take)
                to_device += length - take
        if missing:
            return int(bad(x, chain, faults.SHORT_HEADER, missing))
        if from_device == 0:
            return int(bad(x, chain, faults.NO_STATUS, to_device + HEADER))
        if to_device + from_device - 1 > REQUEST_MAX:
            return int(bad(x, chain, faults.TOO_BIG, to_device + from_device - 1))
        segments[LEN, n - 1] -= 1
        status = segments[ADDR, n - 1] + segments[LEN, n - 1]
        n -= int(segments[LEN, n - 1] == 0)
        row = x.rows[chain]
        row[OUT_AT], row[IN_AT], row[END] = begin, into, n
        row[OUT_BYTES], row[IN_BYTES], row[STATUS] = to_device, from_device - 1, status
    return int(probe(x, parts))


def _probe(x: Any, parts: int) -> int:
    """One byte of each page of data and status; a page met lately is not listed again. x.chains: those that fit."""
    known, segments, pieces = x.known, x.segments, x.pieces
    for k in range(64):
        known[k] = -1
    for k in range(parts):
        page = pieces[ADDR, k] // PAGE_SIZE
        known[page & 63] = page
    for chain in range(x.chains):
        row = x.rows[chain]
        for k in range(row[OUT_AT], row[END] + 1):
            if k < row[END]:
                start, length = segments[ADDR, k], segments[LEN, k]
            else:
                start, length = row[STATUS], 1
            for page in range(start // PAGE_SIZE, (start + length - 1) // PAGE_SIZE + 1):
                if known[page & 63] == page:
                    continue
                if parts == PIECES:
                    x.chains = chain
                    return parts
                known[page & 63] = page
                pieces[ADDR, parts], pieces[LEN, parts] = max(start, page * PAGE_SIZE), 1
                parts += 1
    return parts


probe: Any = njit(_probe)
frame: Any = njit(_frame)


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
        if out > RANGE:
            return blk.VIRTIO_BLK_S_UNSUPP, 0
        good = out == RANGE
    return (blk.VIRTIO_BLK_S_OK, filled) if good else (blk.VIRTIO_BLK_S_IOERR, 0)


judge: Any = njit(_judge)


def _classify(x: Any) -> None:
    """Judge each header, as for this disk, and put what is to be done into x.run; x.runs and x.marked say how much.

    The headers lie at x.headers_at; x.used_elements are virtq_used_elem for a batch in which all goes well.
    """
    n = put = 0
    for chain in range(x.chains):
        row = x.rows[chain]
        at = x.headers_at + HEADER * chain
        kind, sector = load64(at) & 0xFFFFFFFF, load64(at + 8)
        row[START] = sector
        status, filled = judge(kind, sector, row, x.capacity, x.kinds, x.sealed)
        x.statuses[chain] = status
        x.used_elements[2 * chain] = x.heads[chain]
        x.used_elements[2 * chain + 1] = filled + 1 if filled == row[IN_BYTES] else filled
        put = append(x.marks, put, 0, row[STATUS], 1)
        if status != blk.VIRTIO_BLK_S_OK:
            continue
        x.carried += row[OUT_BYTES] + row[IN_BYTES]
        begin, stop, length = row[OUT_AT], row[IN_AT], row[OUT_BYTES]
        if kind == blk.VIRTIO_BLK_T_IN or kind == blk.VIRTIO_BLK_T_GET_ID:
            begin, stop, length = row[IN_AT], row[END], row[IN_BYTES]
        if n and extends(x.run[n - 1], kind, chain, sector * blk.SECTOR, begin, stop):
            x.run[n - 1, COUNT] += 1
            x.run[n - 1, STOP] = stop
            x.run[n - 1, BYTES] += length
            continue
        run = x.run[n]
        run[OP], run[FIRST], run[COUNT], run[FILE_AT] = kind, chain, 1, sector * blk.SECTOR
        run[BEGIN], run[STOP], run[BYTES] = begin, stop, length
        n += 1
    x.runs, x.marked = n, put


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
classify: Any = njit(_classify)


def _frame_of(work: Any) -> int:
    return int(frame(work[0]))


def _classify_of(work: Any) -> None:
    classify(work[0])


frame_of: Any = njit(types.int64(RECORD))(_frame_of)
classify_of: Any = njit(types.void(RECORD))(_classify_of)
