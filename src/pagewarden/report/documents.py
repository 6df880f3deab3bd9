"""The JSON documents of all verbs: what `--json` prints is one of these, and `docs/schema` is made from them.

Every key is always there. Keys are only ever added while `schema` is 1; numbers without a finite value are null.
"""

import json
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
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


class Step(Struct, frozen=True):
    """A line of a listing: who runs, what happens, how often, what it costs and what all of it has cost so far."""

    who: str
    step: str
    times: int
    ns_range: tuple[float, float]
    so_far_ns_range: tuple[float, float]
    counts: dict[str, int]


class Explained(Document, kw_only=True, frozen=True):
    """`pagewarden compare --explain`: a listing, and what the law refuses of it (null where it runs to its end)."""

    verb: Literal["explain"] = "explain"
    procedure: str
    policy: str
    profile: str
    lines: list[Step]
    refused: str | None
    works: bool


DOCUMENTS: dict[str, type[Document]] = {"list": NameList, "explain": Explained}
"""By the name of their schema's file."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a document: every key is always there, and more may come."""
    made = msgspec.json.schema(DOCUMENTS[name])
    for part in made["$defs"].values():
        if part.get("type") == "object" and "properties" in part:
            part["required"] = list(part["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


if __name__ == "__main__":  # python -m pagewarden.report.documents docs/schema
    for name in DOCUMENTS:
        (Path(sys.argv[1]) / f"{name}.json").write_text(json.dumps(schema_of(name), indent=1) + "\n")
