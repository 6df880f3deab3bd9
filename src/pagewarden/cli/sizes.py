"""Sizes as people write them: 4k, 1m, and 4k..1m, which is every power of two between."""

import re

from pagewarden.vocab import UserMistake
from pagewarden.workload.model import MAX_LENGTH

_SIZE = re.compile(r"(\d+)([kmg]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}


def size(text: str) -> int:
    """Bytes, k, m and g in powers of 1024; UserMistake."""
    match = _SIZE.fullmatch(text.strip())
    found = int(match[1]) << _UNITS[match[2].lower()] if match else 0
    if not 1 <= found <= MAX_LENGTH:
        raise UserMistake(f"{text}: expected a size of 1 to {MAX_LENGTH} bytes, such as 4096, 64k or 1m")
    return found


def sizes(text: str) -> list[int]:
    """`4k..1m`, or sizes with commas between; UserMistake."""
    if ".." not in text:
        found = [size(part) for part in text.split(",")]
        if len(set(found)) < len(found):
            raise UserMistake(f"{text}: a size is there twice; leave one out")
        return found
    low, high = map(size, text.split("..", 1))
    if low > high:
        raise UserMistake(f"{text}: expected LOW..HIGH, the smaller one first")
    found = [low]
    while found[-1] * 2 <= high:
        found.append(found[-1] * 2)
    return found
