"""Many checks at once: in processes of this machine, or on a Dask cluster."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context
from typing import Any

from pagewarden.abi.memory import PR_SET_PDEATHSIG
from pagewarden.check.page.system import Setting
from pagewarden.check.search.explorer import Limits
from pagewarden.check.verdict import Said, check
from pagewarden.kernel.door import prctl
from pagewarden.law import APART
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
        with _processes(len(os.sched_getaffinity(0))) as pool:
            yield pool
    elif executor.startswith("dask://"):
        client = _cluster(executor.removeprefix("dask://"))
        try:
            width = max(1, sum(client.nthreads().values()))
            yield Workers(width, lambda function, tasks: client.gather(client.map(function, tasks, pure=False)))
        finally:
            client.close()
    else:
        raise UserMistake(f"--executor {executor}: expected local or dask://HOST:PORT")


@contextmanager
def _processes(width: int) -> Iterator[Workers]:
    """Processes that end with this one, however it ends, and that Ctrl-C does not reach: it ends them here."""

    def mapped(function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # they inherit it, and none prints a traceback
        try:
            futures = [pool.submit(function, task) for task in tasks]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return [future.result() for future in futures]

    pool = ProcessPoolExecutor(width, get_context("spawn"), _end_with, (os.getpid(),))
    try:
        yield Workers(width, mapped)
    except BrokenProcessPool as broken:
        raise Unavailable(
            "a process of the check was killed", "memory may be short: see dmesg, and check less"
        ) from broken
    except BaseException:
        for process in active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with(parent: int) -> None:
    """In a worker: die with the process that wants the answers."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


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
    verdicts: dict[str, tuple[Said, int]]
    states: int
    seconds: float
    exhausted: bool


@dataclass(frozen=True)
class Budget:
    """What many checks may use in all: each a worker's part of the memory, and what is left of the time."""

    memory: int
    until: float

    @classmethod
    def of(cls, limits: Limits, pool: Workers) -> "Budget":
        """From now on."""
        return cls(limits.memory // pool.width, time.time() + limits.seconds)

    @property
    def over(self) -> bool:
        return time.time() > self.until

    def limits(self) -> Limits:
        return Limits(memory=self.memory, seconds=max(0.0, self.until - time.time()))


def matrix(
    setting: Setting, names: tuple[str, ...], pool: Workers, limits: Limits | None = None
) -> list[PolicyVerdicts]:
    """The setting under every policy, one page with all who act on it; the limits hold for all of it."""
    budget = Budget.of(limits or Limits(), pool)
    return pool.map(_line, [(replace(setting, policy=policy), names, budget) for policy in APART.values()])


def _line(task: tuple[Setting, tuple[str, ...], Budget]) -> PolicyVerdicts:
    setting, names, budget = task
    report = check(setting, names, budget.limits(), search="apart")
    verdicts = {
        verdict.name: (verdict.verdict, len(verdict.path) if verdict.verdict == "fails" else 0)
        for verdict in report.verdicts
    }
    return PolicyVerdicts(setting.policy.name, verdicts, report.states, report.seconds, not report.open)
