"""`pagewarden migrate send --json` and `migrate receive --json`."""

from typing import Literal

from pagewarden.report.documents.base import Document
from pagewarden.report.documents.run import OneRun


class Migrated(Document, kw_only=True, frozen=True):
    """`pagewarden migrate`: one side's account of a guest that went from one process to another.

    `moved` is false where the guest stayed at the source, and `why` says why. `pages` of 4096 bytes went, some more
    than once, in `rounds` copies; `downtime_s` is how long the guest stood still; `not_followed` says why it stood for
    the whole copy, where its writes could not be followed. What only the source knows is null at the destination. `run`
    is the part of the guest's I/O that was done on this side, as of `pagewarden run`.
    """

    verb: Literal["migrate"] = "migrate"
    side: Literal["source", "destination"]
    moved: bool
    why: str | None
    pages: int
    rounds: int | None
    downtime_s: float | None
    not_followed: str | None
    run: OneRun
    good: bool
