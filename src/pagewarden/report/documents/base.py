"""What every document says of itself, and the names that `list` knows."""

import os
import sys
from typing import Literal

from msgspec import Struct, field

from pagewarden import __version__

Pair = tuple[float, float]
"""A range, low and high, or lower and upper quartile."""


def _words() -> list[str]:
    return ["pagewarden", *(os.fsencode(word).decode(errors="replace") for word in sys.argv[1:])]


class Document(Struct, kw_only=True, frozen=True):
    """What every document says of itself: the program's version, and the words that it was called with."""

    schema: Literal[1] = 1
    version: str = field(default_factory=lambda: __version__)
    command: list[str] = field(default_factory=_words)


class Named(Struct, frozen=True):
    """A name that can be given, and what it is."""

    name: str
    about: str


class NameList(Document, kw_only=True, frozen=True):
    """`pagewarden list`: the names that can be given, by kind."""

    verb: Literal["list"] = "list"
    kinds: dict[str, list[Named]]
