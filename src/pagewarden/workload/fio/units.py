"""fio's numbers: whole numbers with unit, ranges, and values that differ for reads and writes (fio 3.33's)."""

import re

from pagewarden.workload.fio.sections import Option

NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)([kmgtpKMGTP]?)([iI]?)([bB]?)")
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
MAX = 2**63 - 1


def whole(option: Option, text: str | None = None, kb_base: int = 1024, low: int = 0, high: int = MAX) -> int:
    """The option's value (or this part of it) as a number of bytes, or of whatever it counts.

    With kb_base=1024, fio's default, `k` is 1024 and `kib` is 1000, the wrong way round for old scripts' sake; with
    kb_base=1000 it is the other way round. `ki` without a `b` is `k`.
    """
    text = option.value if text is None else text
    match = NUMBER.fullmatch(text or "")
    expected = f"{option.key} as a whole number from {low} to {high}, with a unit like 4k or 1m if you like"
    if match is None:
        option.refuse(expected)
    digits, prefix, other, byte = match.groups()
    if other and not prefix:
        option.refuse(expected)
    unit: int = (2024 - kb_base if other and byte else kb_base) ** POWERS[prefix.lower()]
    value = int(digits, 16 if digits[:2] in ("0x", "0X") else 10) * unit
    if not low <= value <= high:
        option.refuse(expected)
    return value


def span(option: Option, text: str, kb_base: int, low: int, high: int) -> tuple[int, int]:
    """LOW-HIGH or LOW:HIGH, in either order."""
    parts = re.split("[-:]", text)
    if len(parts) != 2:
        option.refuse(f"{option.key} as LOW-HIGH, for example 4k-64k")
    first, second = (whole(option, part, kb_base, low, high) for part in parts)
    return min(first, second), max(first, second)


def by_direction(option: Option) -> tuple[str | None, str | None]:
    """The texts for reads and for writes of READ[,WRITE[,TRIM]]; None: fio's default. A last value goes for the rest.

    `8k,` gives the default to what follows, `,8k` gives it to reads (fio's manual, blocksize).
    """
    parts = (option.value or "").split(",")
    if not option.value:
        option.refuse(f"{option.key} as a number or READ,WRITE")
    if len(parts) > 3:
        option.refuse(f"at most three values of {option.key}: for reads, writes and trims")
    read = parts[0]
    write = parts[1] if len(parts) > 1 else read
    return read or None, write or None


def switch(option: Option | None) -> bool:
    """A flag: absent is off, alone or 1 is on."""
    if option is None or option.value in ("0", "false"):
        return False
    if option.value in (None, "1", "true"):
        return True
    option.refuse(f"{option.key} as 0 or 1")
