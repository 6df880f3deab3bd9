"""Kernel structures and numbers as tables that read like the headers, uapi names verbatim; nothing here calls."""

from typing import Any


def each(kind: type[Any], names: str) -> tuple[tuple[str, type[Any]], ...]:
    """Fields of a structure, one behind the other, all of one kind."""
    return tuple((name, kind) for name in names.split())
