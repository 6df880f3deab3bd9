"""What a guest writes and what it expects to read: an arithmetic sequence of words, and a hash that composes.

A buffer's word i (8 bytes, little endian) is first + i * STEP modulo 2^64. The hash of words x_0 .. x_{n-1} starts at 0
and becomes (hash + x_i) * FACTOR for each: a few instructions a word, and it depends on every bit and on the order.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio_blk import SECTOR

WORDS = SECTOR // 8
STEP = 0x9E37_79B9_7F4A_7C15
FACTOR = 0xD129_0D3B_2E8A_5F6D
_MASK = (1 << 64) - 1

Words = NDArray[np.uint64]


def fill(first: int, length: int) -> bytes:
    """The pattern of so many bytes, a multiple of 8."""
    words = np.arange(length // 8, dtype=np.uint64) * np.uint64(STEP) + np.uint64(first)
    return words.tobytes()


def digest(data: bytes) -> int:
    """The hash of a buffer, a multiple of 8 bytes."""
    value = 0
    for word in np.frombuffer(data, dtype="<u8").tolist():
        value = (value + word) * FACTOR & _MASK
    return value


def sectors(data: bytes) -> Words:
    """The hash of each sector of an image."""
    words = np.frombuffer(data, dtype="<u8").reshape(-1, WORDS)
    value = np.zeros(len(words), dtype=np.uint64)
    for column in range(WORDS):
        value = (value + words[:, column]) * np.uint64(FACTOR)
    return value


# A sector's pattern hashes to first * _SLOPE + _BASE; two buffers in a row to left * FACTOR ** words(right) + right.
_POWERS = [pow(FACTOR, WORDS - i, 1 << 64) for i in range(WORDS)]
_SLOPE = np.uint64(sum(_POWERS) & _MASK)
_BASE = np.uint64(sum(i * power for i, power in enumerate(_POWERS)) * STEP & _MASK)
_SHIFT = np.uint64(pow(FACTOR, WORDS, 1 << 64))
_STRIDE = np.uint64(STEP * WORDS & _MASK)


def expect(disk: Words, write: NDArray[Any], sector: NDArray[Any], length: NDArray[Any]) -> Words:
    """The word that goes with each request, served one after the other on a disk of these sector hashes (updated).

    For a write it is the first word of its pattern, different for each; for a read the hash of what it must find.
    """
    result = np.empty(len(sector), dtype=np.uint64)
    firsts = (np.arange(len(sector), dtype=np.uint64) + np.uint64(1)) * np.uint64(FACTOR)
    sectors, lengths = sector.astype(np.int64), (length // SECTOR).astype(np.int64)
    _compiled()(disk, write.astype(np.bool_), sectors, lengths, firsts, result)
    return result


@functools.cache
def _compiled() -> Any:
    from pagewarden.vocab.compiled import njit

    return njit(_serve)


def _serve(disk: Any, write: Any, sector: Any, count: Any, firsts: Any, result: Any) -> None:
    for request in range(len(sector)):
        value = firsts[request] if write[request] else np.uint64(0)
        result[request] = value
        for at in range(sector[request], sector[request] + count[request]):
            if write[request]:
                disk[at] = value * _SLOPE + _BASE
                value += _STRIDE
            else:
                value = value * _SHIFT + disk[at]
                result[request] = value
