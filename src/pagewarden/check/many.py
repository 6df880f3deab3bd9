"""Many checks at once: in processes of this machine, or on a Dask cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from pagewarden.check.page.system import Setting
from pagewarden.check.verdict import check
from pagewarden.law import POLICIES
from pagewarden.vocab import Unavailable, UserMistake

PATIENCE = "10s"
"""How long a scheduler may take to answer."""


@dataclass(frozen=True)
class Workers:
    """width: how many tasks run at a time; map: the answers, in the order of the tasks."""

    width: int
    map: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]


@contextmanager
def workers(executor: str = "local") -> Iterator[Workers]:
    """`local` uses this machine's processors, `dask://HOST:PORT` the cluster of that scheduler.

    UserMistake for another name; Unavailable without dask.distributed, or when nobody answers there.
    """
    if executor == "local":
        width = len(os.sched_getaffinity(0))
        with ProcessPoolExecutor(width, get_context("spawn")) as pool:
            yield Workers(width, lambda function, tasks: list(pool.map(function, tasks)))
    elif executor.startswith("dask://"):
        client = _cluster(executor.removeprefix("dask://"))
        try:
            width = max(1, sum(client.nthreads().values()))
            yield Workers(width, lambda function, tasks: client.gather(client.map(function, tasks, pure=False)))
        finally:
            client.close()
    else:
        raise UserMistake(f"--executor {executor}: expected local or dask://HOST:PORT")


def _cluster(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as missing:
        raise Unavailable("dask.distributed is not installed", "pip install 'pagewarden[cluster]'") from missing
    connect: Any = Client
    try:
        return connect(f"tcp://{address}", timeout=PATIENCE)
    except OSError as error:
        raise Unavailable(f"no Dask scheduler answers at {address}: {error}", "start one: dask scheduler") from error


@dataclass(frozen=True)
class PolicyVerdicts:
    """What the matrix says of a policy. verdicts: by property, with the steps of the shortest way to a failure."""

    policy: str
    verdicts: dict[str, tuple[str, int]]
    states: int
    seconds: float
    exhausted: bool


def matrix(setting: Setting, names: tuple[str, ...], pool: Workers) -> list[PolicyVerdicts]:
    """The setting under every policy, one page with all who act on it."""
    return pool.map(_line, [(replace(setting, policy=policy), names) for policy in POLICIES.values()])


def _line(task: tuple[Setting, tuple[str, ...]]) -> PolicyVerdicts:
    setting, names = task
    report = check(setting, names, search="apart")
    verdicts = {
        verdict.name: (verdict.verdict, len(verdict.path) if verdict.verdict == "fails" else 0)
        for verdict in report.verdicts
    }
    return PolicyVerdicts(setting.policy.name, verdicts, report.states, report.seconds, report.exhausted)
