"""The documents by name, their JSON Schemas, and a page about them for people."""

import json
import textwrap
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import msgspec

from pagewarden.report.documents.base import Document, NameList
from pagewarden.report.documents.check import Checked, CheckedProtocol, Matrix, MinimalSets, PublicBugs
from pagewarden.report.documents.compare import Compared, ComparedSizes, Decided, Explained
from pagewarden.report.documents.keep import KeptPages, SealedSnapshot
from pagewarden.report.documents.law import PolicyLaw
from pagewarden.report.documents.mappings import ComparedMappings
from pagewarden.report.documents.migrate import Migrated
from pagewarden.report.documents.pool import PoolSize
from pagewarden.report.documents.prices import Calibrated, Predicted
from pagewarden.report.documents.probe import Kernels, Probed, RoomFound
from pagewarden.report.documents.run import AllDesigns, CheckedCounts, OneRun
from pagewarden.report.documents.serve import ServedBlocks
from pagewarden.report.documents.sweep import Swept
from pagewarden.vocab import Event

DOCUMENTS: dict[str, type[Document]] = {
    "compare": Compared,
    "compare-mappings": ComparedMappings,
    "compare-sizes": ComparedSizes,
    "sweep": Swept,
    "compare-decide": Decided,
    "explain": Explained,
    "check": Checked,
    "check-matrix": Matrix,
    "check-minimal": MinimalSets,
    "check-bugs": PublicBugs,
    "check-protocol": CheckedProtocol,
    "law": PolicyLaw,
    "list": NameList,
    "probe": Probed,
    "probe-isolated": RoomFound,
    "probe-kernels": Kernels,
    "run": OneRun,
    "run-all-designs": AllDesigns,
    "run-check-counts": CheckedCounts,
    "predict": Predicted,
    "calibrate": Calibrated,
    "pool": PoolSize,
    "serve": ServedBlocks,
    "keep": KeptPages,
    "keep-seal": SealedSnapshot,
    "migrate": Migrated,
}
"""By the name of their schema's file, in the order of docs/json.md."""

HEAD = f"""# JSON output

Every verb takes `--json` and prints one document on standard output. `schema` is 1; keys are only ever added, and
each is always there. `version` is the program's, and `command` the words that it was called with. Where prices
decide, `settings` has what `--set` changed, and `prices` all that were used, from and to in ns or ns a byte, by the
setting that changes each. Numbers without a finite value are null. The status is 0 for done (or "yes"), 1 where the
answer is no, 2 for a mistake in the call or its input. `docs/schema` has a JSON Schema of each document; this page is
made of them.

Counts, `per_request` and `total`, have the keys `hops`, `hops_by_edge`, `syscalls` by name, `ranges` (operations that
set or cleared entries, by event), and one an event:
{textwrap.fill(", ".join(f"`{event.key}`" for event in Event), 118)}.
"""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a document: every key is always there, and more may come."""
    made = msgspec.json.schema(DOCUMENTS[name])
    for part in made["$defs"].values():
        if "description" in part:
            part["description"] = cleandoc(part["description"])  # msgspec before 0.23 keeps the indentation
        if part.get("type") == "object" and "properties" in part:
            part["required"] = list(part["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def schema_text(name: str) -> str:
    """The same as the file in docs/schema."""
    return json.dumps(schema_of(name), indent=1) + "\n"


def page() -> str:
    """docs/json.md: of each document what it is, its keys, and what the structs say of theirs."""
    return "\n".join([HEAD, *(line for name in DOCUMENTS for line in _section(name))])


def _section(name: str) -> Iterator[str]:
    schema = schema_of(name)
    parts = schema["$defs"]
    top = schema["$ref"].rpartition("/")[2]
    yield f"## {name}\n\n{parts[top]['description']}\n\n| key | value |\n|---|---|"
    seen, waiting = {top}, [top]
    while waiting:
        yield from _rows("" if (part := waiting.pop(0)) == top else part, parts[part], waiting, seen)
    yield ""


def _rows(inside: str, part: dict[str, Any], waiting: list[str], seen: set[str]) -> Iterator[str]:
    """The keys of an object; below those of the document, what each kind of object in it is, and its keys."""
    if inside:
        yield f"| **{inside}** | {' '.join(part['description'].split())} |"
    for key, kind in part["properties"].items():
        yield f"| `{key}` | {_words(kind, waiting, seen)} |"


def _words(kind: dict[str, Any], waiting: list[str], seen: set[str]) -> str:
    """A kind of value in a line; objects that it names wait for their own rows."""

    def inner(kind: dict[str, Any]) -> str:
        return _words(kind, waiting, seen)

    match kind:
        case {"$ref": at}:
            name = at.rpartition("/")[2]
            if name not in seen:
                seen.add(name)
                waiting.append(name)
            return f"**{name}**"
        case {"enum": values}:
            return " or ".join(f"`{json.dumps(value)}`" for value in values)
        case {"anyOf": kinds}:
            return " or ".join(inner(each) for each in kinds)
        case {"prefixItems": kinds}:
            return f"[{', '.join(inner(each) for each in kinds)}]"
        case {"items": items} if items:
            return f"list of {inner(items)}"
        case {"additionalProperties": values}:
            return f"object of {inner(values)}"
    return {"integer": "whole number", "boolean": "true or false"}.get(kind["type"], str(kind["type"]))
