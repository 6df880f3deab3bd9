"""The matrix of another kernel: the probe runs inside, what it found is judged outside, by the law as it is here."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pagewarden.lab import fetch, qemu
from pagewarden.probe.capabilities import Capability
from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.registry import Direction
from pagewarden.probe.trial import State, TrialResult, TrialVerdict
from pagewarden.studies.probe.isolation import (
    Isolation,
    MatrixColumn,
    TrialRow,
    Where,
    chosen_memories,
    chosen_paths,
    law_of,
)
from pagewarden.vocab import InternalError, Unavailable

SECONDS = 120.0
"""For one trial: an emulated machine is some ten times slower."""
LIMIT = 3600.0
"""For everything."""


def isolation_in(
    kernel: fetch.Kernel,
    backings: Sequence[str] = (),
    patterns: Sequence[str] = (),
    seconds: float = SECONDS,
    say: fetch.Tell = lambda what: None,
) -> tuple[Isolation, list[Capability]]:
    """What `isolation` gives, and the capabilities, of a kernel under QEMU; UserMistake, Unavailable."""
    chosen_memories(backings), chosen_paths(patterns)  # a wrong name is told before anything is booted
    options = [word for name in backings for word in ("--backing", name)]
    options += [word for name in patterns for word in ("--path", name)]
    command = [sys.executable, "-m", "pagewarden", "probe", "--json", "--timeout", str(seconds), *options]
    answer = qemu.run(kernel, command, LIMIT, say=say)
    if answer.status == 2:
        raise Unavailable(
            f"inside {answer.kernel}: {answer.stderr.strip()[-2000:]}", "see docs/lab.md for what it is given"
        )
    if answer.status not in (0, 1):
        raise InternalError(f"the probe inside ended with status {answer.status}: {answer.stderr.strip()[-2000:]}")
    document = json.loads(answer.stdout)
    return judged(document, "qemu"), [Capability(**found) for found in document["capabilities"]]


def judged(document: Mapping[str, Any], where: Where) -> Isolation:
    """A document of `probe --json`, its results beside what the law says here and now."""
    return Isolation(document["kernel"], tuple(map(_row, document["matrix"])), where)


def _row(said: Mapping[str, Any]) -> TrialRow:
    memory = MatrixColumn(said["backing"], said["isolated"])
    path, state = PATHS[said["path"], Direction(said["direction"])], State(said["state"])
    verdict = TrialVerdict(TrialResult(said["result"]), said["errno"], reason=said["reason"])
    return TrialRow(memory, path, state, verdict, law_of(memory, path, state))
