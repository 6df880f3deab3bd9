"""A document of `probe --json`, read: by a guest that is not trusted, by an earlier run, by a record."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from pagewarden.probe.trial import TrialResult
from pagewarden.studies.probe.changes import Ending, TrialKey

Word = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=4000)]
MOST = 20_000
"""Trials that a document may have."""


class SaidTrial(Struct, frozen=True):
    """What is read of a trial: what was tried, and what came of it."""

    backing: Word
    isolated: bool
    path: Word
    state: Word
    direction: Word
    result: TrialResult
    errno: Word | None
    reason: Text | None = None
    since: Word | None = None

    @property
    def key(self) -> TrialKey:
        """What was tried."""
        return TrialKey(self.backing, self.isolated, self.path, self.direction, self.state, self.since)


class SaidCapability(Struct, frozen=True):
    """A thing that a kernel has or has not."""

    name: Word
    available: bool
    reason: Text


class SaidMatrix(Struct, frozen=True):
    """What is read of a document."""

    kernel: Word
    matrix: Annotated[list[SaidTrial], Meta(max_length=MOST)]
    capabilities: Annotated[list[SaidCapability], Meta(max_length=1000)] = []

    @property
    def endings(self) -> dict[TrialKey, Ending]:
        """What came of each trial."""
        return {trial.key: Ending(trial.result, trial.errno) for trial in self.matrix}


def read(document: bytes) -> SaidMatrix:
    """msgspec.MsgspecError where it is none."""
    return msgspec.json.decode(document, type=SaidMatrix)
