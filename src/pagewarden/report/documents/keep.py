"""`pagewarden keep --json` and `pagewarden keep seal --json`."""

from typing import Literal

from pagewarden.report.documents.base import Document


class KeptPages(Document, kw_only=True, frozen=True):
    """`pagewarden keep`: what was done between its start and its end, for all VMs.

    `pages`: pages of 4096 bytes that were put in place, `pages_ahead` of them by --replay; `pages_removed`: those that
    VMs removed; `pages_refused`: asked for and not right in the snapshot, so poison. `retried`: faults that came again
    because a removal was to be read first. `restarts`: pagers that died and were replaced; `ended`: VMs that the keeper
    ended because nobody could answer them rightly; `hand_overs_refused`: connections that were no hand-over.
    `over_time`: seconds, pages there and faults so far, about once a second.
    """

    verb: Literal["keep"] = "keep"
    vms: int
    faults: int
    pages: int
    pages_ahead: int
    pages_removed: int
    pages_refused: int
    retried: int
    restarts: int
    ended: int
    hand_overs_refused: int
    over_time: list[tuple[float, int, int]]


class SealedSnapshot(Document, kw_only=True, frozen=True):
    """`pagewarden keep seal`: a VMM's plain snapshot of its memory, sealed into a file.

    `pages` of 4096 bytes has the memory, and `pages_sealed` of them lie in the file: the others are all zeroes.
    """

    verb: Literal["keep"] = "keep"
    mode: Literal["seal"] = "seal"
    plain: str
    sealed: str
    pages: int
    pages_sealed: int
    seconds: float
    bytes_per_s: float
