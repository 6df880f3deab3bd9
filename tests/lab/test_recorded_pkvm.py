"""What kernels with pKVM answered, kept with version and day: the law as it is now is held against each cell."""

import json
from pathlib import Path
from typing import Any

import pytest

from pagewarden.law import POLICIES
from pagewarden.studies.probe.protected import ASKED, WAYS, Foreseen, foreseen

RECORDED = sorted((Path(__file__).parent / "recorded" / "pkvm").glob("*.json"))
SILENT = {
    "another frame comes to lie at the address, or the frame outlives it":
    ["mremap-dontunmap", "mremap-dontunmap-before", "pin-then-unmap", "close-vm-pinned"],
    "a register, not a page": ["registers", "guest-granule"],
    "another gpa than the page's": ["guest-share-unaligned", "guest-share-nowhere"],
    "limits of the process": ["memlock"],
    "another memslot, VM or file beside the page's": ["slot-move", "slot-add", "slot-readonly", "slot-dirty-log",
     "slot-second", "vm-second", "vm-plain", "slot-over-memfd_secret", "slot-over-block-device", "slot-over-tmpfs",
     "slot-guest_memfd-private", "slot-guest_memfd-shared"],
}  # fmt: skip
"""Ways of which the law of one page says nothing, by the reason: they count as no agreement."""


def cells(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text())
    assert any(found["kernel"].startswith(asked.partition(" ")[0]) for asked in POLICIES["pkvm"].asked)
    assert found["date"] and found["where"] == "qemu"
    return list(found["cells"])


def answered(cell: dict[str, Any]) -> Foreseen:
    return Foreseen(cell["host"], cell["saw"], cell["then"], cell["guest"])


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_law_says_what_the_kernel_did(path: Path) -> None:
    judged = [(cell, said) for cell in cells(path) if (said := foreseen(cell)) is not None]
    assert [(cell, said) for cell, said in judged if said != answered(cell)] == []
    assert len(judged) >= 1329


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_the_law_is_silent_of_has_a_reason(path: Path) -> None:
    silent = {cell["way"] for cell in cells(path) if foreseen(cell) is None}
    assert silent == {way for ways in SILENT.values() for way in ways}


def test_what_is_said_to_be_asked_was_asked() -> None:
    """In every state of a page, over both kinds of memory where the way is not of a file."""
    asked = {(cell["way"], cell["state"], cell["backing"]) for path in RECORDED for cell in cells(path)}
    ways = {way for way, _, _ in asked}
    assert ways >= ASKED <= {name for name, _ in WAYS}
    for way in ASKED:
        assert len({state for name, state, _ in asked if name == way}) == 5, way


@pytest.mark.parametrize("name", ["injects", "force-reclaim", "long-term-pin", "file-io", "punches"])
def test_a_rule_that_is_another_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "pkvm", POLICIES["pkvm"].without(name))
    assert any(foreseen(cell) != answered(cell) for path in RECORDED for cell in cells(path))
