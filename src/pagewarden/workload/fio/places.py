"""fio's random map for mixed sizes: which blocks of the region were used in this pass (fio's manual, norandommap)."""

from functools import cache
from typing import Any

import numpy as np

from pagewarden.vocab import UserMistake
from pagewarden.workload.lines import Int64s

MAX_BLOCKS = 1 << 33
"""Blocks of a map, a byte each (only touched ones take memory)."""
MANY = 1 << 16
"""Blocks from which on the loop is compiled."""
FREE, MOVED = 0, 1


def _take(used: Any, state: Any, wanted: Any, drawn: Any, unit: int, limit: int, largest: int, out: Any) -> int:
    """Place the wanted bytes at the first free block at or after the drawn one (or from 0), until the limit.

    out: (2, n), offset and bytes of each. How many were placed.
    """
    blocks = len(used)
    for n in range(len(wanted)):
        if state[FREE] == 0:
            used[:] = 0
            state[FREE] = blocks
        if state[MOVED] >= limit or (state[MOVED] > 0 and state[FREE] == blocks and limit - state[MOVED] < largest):
            return n
        start = drawn[n]
        while used[start]:
            start = start + 1 if start + 1 < blocks else 0
        count, most = 0, -(-wanted[n] // unit)
        while count < most and start + count < blocks and not used[start + count]:
            used[start + count] = 1
            count += 1
        state[FREE] -= count
        out[0, n], out[1, n] = start * unit, min(wanted[n], count * unit)
        state[MOVED] += out[1, n]
    return len(wanted)


@cache
def _compiled() -> Any:
    from pagewarden.vocab.compiled import njit

    return njit(_take)


class Map:
    """The blocks of a region, `unit` bytes each."""

    def __init__(self, blocks: int, unit: int) -> None:
        """UserMistake for more blocks than can be remembered."""
        if blocks > MAX_BLOCKS:
            raise UserMistake(
                f"{blocks:,} blocks of {unit} bytes are more than can be remembered as used ({MAX_BLOCKS:,}); "
                "set norandommap, or a smaller size"
            )
        self.blocks, self.unit = blocks, unit
        self._used = np.zeros(blocks, np.uint8)
        self._state = np.array([blocks, 0], np.int64)
        self._loop = _take if blocks < MANY else _compiled()

    def take(self, wanted: Int64s, drawn: Int64s, limit: int, largest: int) -> tuple[Int64s, Int64s]:
        """Offsets and bytes of requests that want so many bytes at the drawn blocks; fewer where the limit, in bytes of
        all requests so far, is reached. At the end of a pass fio goes on only if a longest request is still allowed."""
        out = np.zeros((2, len(wanted)), np.int64)
        count = self._loop(self._used, self._state, wanted, drawn, self.unit, limit, largest, out)
        return out[0, :count], out[1, :count]
