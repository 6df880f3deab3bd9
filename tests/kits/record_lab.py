"""What kernels answer, kept for machines without QEMU: `make record`, or this file with the names of kernels."""

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from msgspec import to_builtins

import attributes_kvm
from pagewarden.lab import fetch
from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.registry import Direction
from pagewarden.report.probe import probed
from pagewarden.studies.probe import pkvm
from pagewarden.studies.probe.elsewhere import isolation_in
from pagewarden.studies.probe.expected import forbidden

RECORDED = Path(__file__).parents[1] / "lab" / "recorded"
ATTRIBUTES = "attributes"
KERNELS = ("debian:6.1", "debian:6.12", "debian:7.3", "debian:7.3/arm64", ATTRIBUTES)
"""The last is 7.3 with a KVM that is built for it (attributes_kvm.py)."""


def pages(kernel: fetch.Kernel) -> None:
    """A protected VM's cells."""
    found = pkvm.ask(kernel, say=say)
    cells = [to_builtins(row.cell) for row in found.rows]
    write(RECORDED / "pkvm" / f"{found.kernel}.json", {"kernel": found.kernel, "where": "qemu"}, {"cells": cells})


def matrix(kernel: fetch.Kernel) -> None:
    """The matrix. Of the isolated memories what is left to the kernel's guard of their pages: what their filter refuses
    is this package's own answer."""
    found = probed(*isolation_in(kernel, say=say))
    trials = [
        {name: getattr(trial, name) for name in ("backing", "isolated", "path", "state", "direction", "result", "errno",
         "reason")}
        for trial in found.matrix if not (trial.isolated and forbidden(PATHS[trial.path, Direction(trial.direction)]))
    ]  # fmt: skip
    head = {"kernel": found.kernel, "where": "qemu"}
    write(RECORDED / f"{found.kernel}.json", head, {"capabilities": to_builtins(found.capabilities), "matrix": trials})


def attributes() -> None:
    """What a guest_memfd with attributes by the page answers."""
    found = attributes_kvm.ask(attributes_kvm.with_attributes(fetch.kernel("debian:7.3", say), say), say=say)
    head = {"kernel": found["kernel"], "where": "qemu", "built": "KVM_SW_PROTECTED_VM"}
    write(
        RECORDED / "attributes" / f"{found['kernel']}.json",
        head,
        {name: found[name] for name in ("rows", "wrong", "flags")},
    )


def write(path: Path, head: dict[str, str], lists: dict[str, list[Any]]) -> None:
    """A line for each thing, so that a difference can be read; the day is that of the answer."""
    head["date"] = datetime.date.today().isoformat()
    parts = [json.dumps(head)[:-1]]
    for name, things in lists.items():
        parts.append(f',\n "{name}": [\n' + ",\n".join(map(json.dumps, things)) + "\n ]")
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(parts) + "}\n")
    say(f"{path.name} is written")


def say(what: str) -> None:
    """For whoever waits."""
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """The kernels named, or all."""
    for name in sys.argv[1:] or KERNELS:
        if name == ATTRIBUTES:
            attributes()
            continue
        kernel = fetch.kernel(name, say)
        pages(kernel) if kernel.architecture == "arm64" else matrix(kernel)


if __name__ == "__main__":
    main()
