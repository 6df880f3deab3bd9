"""What an arm64 kernel with its hypervisor lets its host do to a protected VM: asked inside, read and judged here."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from pagewarden.lab import pkvm
from pagewarden.lab.fetch import Kernel
from pagewarden.lab.packages import Tell
from pagewarden.probe.pkvm.asker import SECONDS
from pagewarden.probe.pkvm.stage import BACKINGS
from pagewarden.probe.pkvm.ways import WAYS
from pagewarden.probe.trial import OPEN, TrialResult
from pagewarden.studies.probe.protected import foreseen
from pagewarden.studies.probe.said import Word
from pagewarden.vocab import Advance, Unavailable, one_of

LIMIT = 1800.0
"""Seconds for everything."""
MOST = 10_000
"""Cells that are read at most."""
StateName = Literal["host", "private", "shared", "unshared", "poison"]


class PageCell(Struct, frozen=True, kw_only=True):
    """A way, tried on a page of a protected VM: see `pagewarden.probe.pkvm.asker`."""

    backing: Literal["anonymous", "memfd"]
    state: StateName
    since: StateName
    way: Word
    direction: Literal["read", "write"]
    step: Word
    host: Word | None
    saw: Word | None
    then: Word | None
    guest: Word | None
    locked: int | None = None

    @property
    def result(self) -> TrialResult:
        """The same in the words of a trial: `TORN` where the guest's own bytes, or its life, are gone."""
        owned = self.state in ("private", "unshared")
        if self.host == "TIMEOUT":
            return TrialResult.TIMEOUT
        if self.host == "UNKILLABLE":
            return TrialResult.HANG
        if self.guest != "secret" and (owned or (self.state == "shared" and self.direction == "read")):
            return TrialResult.TORN
        if self.saw in ("secret", "stale") and self.state != "shared":
            return TrialResult.LEAK
        return TrialResult.ALLOWED if self.host == "ok" else TrialResult.REFUSED


class _Head(Struct):
    kernel: Annotated[str, Meta(max_length=200)]
    cells: Annotated[int, Meta(ge=0, le=MOST)]


class _End(Struct, forbid_unknown_fields=True):
    end: Annotated[str, Meta(max_length=4000)]


@dataclass(frozen=True, slots=True)
class PageRow:
    """A cell, and the same as the law foresees it; None: it says nothing of that way."""

    cell: PageCell
    law: PageCell | None

    @property
    def agrees(self) -> bool | None:
        """None: there was nothing to compare."""
        return None if self.law is None or self.cell.result in OPEN else self.cell == self.law


def judged(cell: PageCell) -> PageRow:
    """By the law as it is here and now."""
    said = foreseen(asdict(cell))
    return PageRow(cell, replace(cell, **vars(said)) if said else None)


@dataclass(frozen=True, slots=True)
class Asked:
    """All cells that a kernel answered."""

    kernel: str
    rows: tuple[PageRow, ...]


def ask(
    kernel: Kernel,
    backings: Sequence[str] = (),
    ways: Sequence[str] = (),
    seconds: float = LIMIT,
    say: Tell = lambda what: None,
    progress: Advance | None = None,
    each: float = SECONDS,
) -> Asked:
    """Boot an arm64 kernel and ask it those backings and ways (shell patterns), or all, each for so many seconds;
    UserMistake, Unavailable."""
    chosen = [one_of("backing", name, BACKINGS) for name in backings] or list(BACKINGS)
    for pattern in ways:
        if not any(fnmatchcase(way.name, pattern) for way in WAYS):
            one_of("path", pattern, dict.fromkeys(way.name for way in WAYS))
    return read(pkvm.ask(kernel, chosen, ways or ["*"], seconds, say, progress, each), kernel.name)


def read(lines: Sequence[bytes], name: str) -> Asked:
    """The lines that a guest wrote, which is not trusted; Unavailable where it could not do what it was asked."""
    try:
        head, end = msgspec.json.decode(lines[0], type=_Head), msgspec.json.decode(lines[-1], type=_End)
        cells = tuple(msgspec.json.decode(line, type=PageCell) for line in lines[1:-1][:MOST])
    except (msgspec.DecodeError, IndexError) as wrong:
        raise Unavailable(f"{name} said what is no answer ({wrong})", "see what its console says") from wrong
    if end.end or len(cells) != head.cells:
        raise Unavailable(f"{name}: {end.end or 'cells are missing'}", "see docs/lab.md for what it needs")
    return Asked(head.kernel, tuple(map(judged, cells)))
