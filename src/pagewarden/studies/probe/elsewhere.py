"""The matrix of another kernel: the probe runs inside, what it found is judged outside, by the law as it is here."""

import sys
from collections.abc import Sequence

from msgspec import MsgspecError
from msgspec.structs import astuple

from pagewarden.lab import fetch, qemu
from pagewarden.lab.packages import Tell
from pagewarden.probe.capabilities import Capability
from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.registry import Direction
from pagewarden.probe.trial import State, TrialVerdict
from pagewarden.studies.probe.isolation import (
    Isolation,
    MatrixColumn,
    TrialRow,
    Where,
    chosen_memories,
    chosen_paths,
    law_of,
)
from pagewarden.studies.probe.said import SaidMatrix, SaidTrial, read
from pagewarden.vocab import Advance, InternalError, Unavailable

SECONDS = 120.0
"""For one trial: an emulated machine is some ten times slower."""
LIMIT = 3600.0
"""For everything."""
INSIDE = {"PAGEWARDEN_PROGRESS": "/dev/console"}
"""Where the command inside says how far it is."""


def isolation_in(
    kernel: fetch.Kernel,
    backings: Sequence[str] = (),
    patterns: Sequence[str] = (),
    seconds: float = SECONDS,
    say: Tell = lambda what: None,
    progress: Advance | None = None,
) -> tuple[Isolation, list[Capability]]:
    """What `isolation` gives, and the capabilities, of a kernel under QEMU; UserMistake, Unavailable."""
    chosen_memories(backings), chosen_paths(patterns)  # a wrong name is told before anything is booted
    options = [word for name in backings for word in ("--backing", name)]
    options += [word for name in patterns for word in ("--path", name)]
    command = [sys.executable, "-m", "pagewarden", "probe", "--json", "--timeout", str(seconds), *options]
    answer = qemu.run(kernel, command, LIMIT, INSIDE, say, progress=progress)
    if answer.status == 2:
        raise Unavailable(
            f"inside {answer.kernel}: {answer.stderr.strip()[-2000:]}", "see docs/lab.md for what it is given"
        )
    if answer.status not in (0, 1):
        raise InternalError(f"the probe inside ended with status {answer.status}: {answer.stderr.strip()[-2000:]}")
    try:
        document = read(answer.stdout.encode())
        return judged(document, "qemu"), [Capability(*astuple(found)) for found in document.capabilities]
    except (MsgspecError, KeyError, ValueError) as wrong:
        raise Unavailable(f"{kernel.name} said what is no matrix ({wrong})", "was it tampered with?") from wrong


def judged(document: SaidMatrix, where: Where) -> Isolation:
    """Its results beside what the law says here and now; KeyError, ValueError for trials that are not known."""
    return Isolation(document.kernel, tuple(map(_row, document.matrix)), where)


def _row(said: SaidTrial) -> TrialRow:
    memory = MatrixColumn(said.backing, said.isolated)
    path, state = PATHS[said.path, Direction(said.direction)], State(said.state)
    verdict = TrialVerdict(said.result, said.errno, reason=said.reason)
    return TrialRow(memory, path, state, verdict, law_of(memory, path, state))
