"""Where fio itself puts random requests that are followed by others, compiled (see runs.py).

The numbers are those of L'Ecuyer's generator taus88 (Mathematics of Computation 65, 1996), seeded as fio's lib/rand.c
does.
"""

from typing import Any

import numpy as np

from pagewarden.vocab.compiled import njit

_ALL = 2**32 - 1


@njit
def _next(state: Any) -> int:
    """A number of 32 bits."""
    a, b, c = state
    state[0] = ((a & 0xFFFFFFFE) << 12 & _ALL) ^ (((a << 13 & _ALL) ^ a) >> 19)
    state[1] = ((b & 0xFFFFFFF8) << 4 & _ALL) ^ (((b << 2 & _ALL) ^ b) >> 25)
    state[2] = ((c & 0xFFFFFFF0) << 17 & _ALL) ^ (((c << 3 & _ALL) ^ c) >> 11)
    return int(state[0] ^ state[1] ^ state[2])


@njit
def _seed(state: Any, seed: int) -> None:
    word = 53
    for i in range(3):
        word = word * 69069 & _ALL ^ seed
        least = 2 ** (3 * i + 1) - (i > 0)  # 1, 7 and 15
        word += least * (word < least)
        state[i] = word
    for _ in range(6):
        _next(state)


@njit
def follow(write: Any, used: Any, seed: int, shape: Any, out: Any) -> int:
    """The block of each request, and how many there are. used: which blocks were drawn, empty where any may come again;
    shape: blocks, requests of a run, the way from one to the next, whether there is a tail, whether to begin again."""
    blocks, run, stride, tail, again = shape
    state, reached, free, turn, i = np.zeros(3, np.int64), np.zeros(2, np.int64), blocks, 0, 0
    _seed(state, seed)
    while i < len(write):
        way = 1 if write[i] else 0
        block, drawn = reached[way], turn % run == 0
        turn += 1
        beyond = block >= blocks
        if (beyond and tail and not drawn) or free == 0:
            if not again:
                break
            reached[:], used[:], free = 0, False, blocks
            _seed(state, seed)
            continue
        if drawn or beyond:
            block = int(blocks * (_next(state) / 2.0**32))
            while len(used) and used[block]:
                block = block + 1 if block + 1 < blocks else 0
            if len(used) and drawn:  # what is drawn instead of a follower is not remembered
                used[block], free = True, free - 1
        out[i], reached[way] = block, block + stride
        i += 1
    return i
