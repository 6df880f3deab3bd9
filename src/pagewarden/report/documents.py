"""The JSON documents of all verbs: what `--json` prints is one of these, and `docs/schema` is made from them.

Every key is always there. Keys are only ever added while `schema` is 1; numbers without a finite value are null.
"""

from typing import Literal

from msgspec import Struct


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
