"""Sizes as people write them: 4k, 1m, and 4k..1m, which is every power of two between; and what is no size."""

import re

from pagewarden.vocab import UserMistake
from pagewarden.workload.dma_mappings import SLOT
from pagewarden.workload.model import MAX_LENGTH

MAX_SLOTS = 1 << 31
_SIZE = re.compile(r"(\d{1,20})([kmg]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}


def size(text: str) -> int:
    """Bytes, k, m and g in powers of 1024; UserMistake."""
    found = _bytes(text)
    if not 1 <= found <= MAX_LENGTH:
        raise UserMistake(f"{text}: expected a size of 1 to {MAX_LENGTH} bytes, such as 4096, 64k or 1m")
    return found


def _bytes(text: str) -> int:
    """0: it is no size."""
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) << _UNITS[match[2].lower()] if match else 0


def slots(text: str) -> int:
    """Slots of the bounce pool; UserMistake, which says how many a size is."""
    found = _bytes(text)
    if found and not text.strip().isdecimal():
        many = -(-found // SLOT)
        raise UserMistake(f"--slots {text}: expected a number of slots of 2 KiB, not bytes; {text} is {many} slots")
    if not 1 <= found <= MAX_SLOTS:
        raise UserMistake(f"--slots {text}: expected a number of slots of 2 KiB, 1 to {MAX_SLOTS}")
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
