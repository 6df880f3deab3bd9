"""`pagewarden serve blk --json`."""

from typing import Literal

from pagewarden.report.documents.base import Document


class ServedBlocks(Document, kw_only=True, frozen=True):
    """`pagewarden serve blk`: what was done between its start and its end.

    `bytes`: data of the requests that were good. `pages_opened`: how often a page of the guest was opened for the
    device; `max_open`: most of them open at a time; `longest_open_ms`: one page, from its opening to its close.
    `refused`: what the guest or its front end asked in vain, outside of a request's status; `violations`: accesses of
    the device process to what was not open for it, or pages that it did not close; `probed`: how many closed pages it
    tried with --probe. `pages_ever`: different pages among those opened; `byte_seconds`: bytes that were open, times
    how long, of pages that were closed by the end. `device_restarts`: how often that process was started anew.
    `over_time`: seconds, requests so far, and pages open then, about once a second.
    """

    verb: Literal["serve"] = "serve"
    mode: Literal["iommu", "pool", "open"]
    requests: int
    bytes: int
    pages_opened: int
    max_open: int
    longest_open_ms: float
    refused: int
    violations: int
    device_restarts: int
    probed: int
    pages_ever: int
    byte_seconds: float
    over_time: list[tuple[float, int, int]]
