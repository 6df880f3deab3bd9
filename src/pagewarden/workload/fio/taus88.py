"""The random numbers of fio: L'Ecuyer's generator taus88 (Mathematics of Computation 65, 1996).

It is seeded as fio's lib/rand.c does.
"""

from typing import Any

from pagewarden.vocab.hot import hot

_ALL = 2**32 - 1


@hot
def following(state: Any) -> int:
    """The next number of 32 bits."""
    a, b, c = state
    state[0] = ((a & 0xFFFFFFFE) << 12 & _ALL) ^ (((a << 13 & _ALL) ^ a) >> 19)
    state[1] = ((b & 0xFFFFFFF8) << 4 & _ALL) ^ (((b << 2 & _ALL) ^ b) >> 25)
    state[2] = ((c & 0xFFFFFFF0) << 17 & _ALL) ^ (((c << 3 & _ALL) ^ c) >> 11)
    return int(state[0] ^ state[1] ^ state[2])


@hot
def below(state: Any, most: int) -> int:
    """One of the numbers below `most`."""
    return int(most * (following(state) / 2.0**32))


@hot
def seed(state: Any, number: int) -> None:
    """Begin anew."""
    word = 53
    for i in range(3):
        word = word * 69069 & _ALL ^ number
        least = 2 ** (3 * i + 1) - (i > 0)  # 1, 7 and 15
        word += least * (word < least)
        state[i] = word
    for _ in range(6):
        following(state)
