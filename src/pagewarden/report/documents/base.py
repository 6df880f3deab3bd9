"""What every document says of itself, and the names that `list` knows."""

from typing import Literal

from msgspec import Struct

Pair = tuple[float, float]
"""A range, low and high, or lower and upper quartile."""


class Document(Struct, kw_only=True, frozen=True):
    """What every document says of itself."""

    schema: Literal[1] = 1


class Named(Struct, frozen=True):
    """A name that can be given, and what it is."""

    name: str
    about: str


class NameList(Document, kw_only=True, frozen=True):
    """`pagewarden list`: the names that can be given, by kind."""

    verb: Literal["list"] = "list"
    kinds: dict[str, list[Named]]
