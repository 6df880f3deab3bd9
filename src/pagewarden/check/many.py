"""Many checks at once: in processes of this machine, or on a Dask cluster."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import Pipe, get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from traceback import format_exc
from typing import Any

from pagewarden.abi.memory import PR_SET_PDEATHSIG
from pagewarden.check.search.explorer import Limits
from pagewarden.kernel.door import prctl
from pagewarden.vocab import Unavailable, UserMistake
from pagewarden.vocab.host import naming

PATIENCE = "10s"
"""How long a scheduler may take to answer."""


class CutShort(KeyboardInterrupt):
    """Ctrl-C while tasks ran. answers: in the order of the tasks, None for those that have none."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__()
        self.answers = answers


@dataclass(frozen=True)
class Workers:
    """width: how many tasks run at a time; map: the answers, in the order of the tasks, or CutShort."""

    width: int
    map: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]


@contextmanager
def workers(executor: str = "local") -> Iterator[Workers]:
    """`local` uses this machine's processors, `dask://HOST:PORT` the cluster of that scheduler.

    UserMistake for another name; Unavailable without dask.distributed, or when nobody answers there.
    """
    if executor == "local":
        with ExitStack() as opened:
            width = len(os.sched_getaffinity(0))
            yield Workers(width, _Processes(width, opened).map)
    elif executor.startswith("dask://"):
        client = _cluster(executor.removeprefix("dask://"))
        try:
            width = max(1, sum(client.nthreads().values()))
            yield Workers(width, lambda function, tasks: _gathered(client.map(function, tasks, pure=False)))
        finally:
            client.close()
    else:
        raise UserMistake(f"--executor {executor}: expected local or dask://HOST:PORT")


class _Processes:
    """Processes that end with this one, however it ends, and that Ctrl-C does not reach: the end of the block kills
    them. They talk over pipes: the semaphores of queues have names that outlive a session that is killed whole."""

    def __init__(self, width: int, opened: ExitStack) -> None:
        self._width, self._opened = width, opened
        self._idle: list[Connection] = []

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        answers: list[Any] = [None] * len(tasks)
        todo, busy = iter(enumerate(tasks)), dict[Connection, int]()
        try:
            while True:
                for number, task in islice(todo, self._width - len(busy)):
                    pipe = self._idle.pop() if self._idle else self._start()
                    pipe.send((function, task))
                    busy[pipe] = number
                if not busy:
                    return answers
                for pipe in set(busy).intersection(wait(busy)):
                    number = busy.pop(pipe)
                    answers[number], error = pipe.recv()
                    self._idle.append(pipe)
                    if error is not None:
                        raise error
        except (EOFError, ConnectionError) as ended:
            raise Unavailable(
                "a process of the check was killed", "memory may be short: see dmesg, and check less"
            ) from ended
        except KeyboardInterrupt:
            raise CutShort(answers) from None

    def _start(self) -> Connection:
        with naming("the current directory"):
            os.getcwd()  # multiprocessing asks for it and says less
        ours, theirs = Pipe()
        process = get_context("spawn").Process(target=_work, args=(theirs, os.getpid()), daemon=True)
        self._opened.callback(_end, process)
        resource_tracker.ensure_running()  # its start would let the signal through again
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # they inherit it, and none prints a traceback
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()
        return ours


def _end(process: Any) -> None:
    if process.pid is not None:  # else it could not be started
        process.kill()
        process.join()


def _work(pipe: Connection, parent: int) -> None:
    """In a worker: die with the process that wants the answers."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)
    with suppress(EOFError, ConnectionError):
        while True:
            function, task = pipe.recv()
            try:
                pipe.send((function(task), None))
            except Exception as error:
                error.add_note(format_exc())
                pipe.send((None, error))


def _gathered(futures: list[Any]) -> list[Any]:
    """The answers of a cluster."""
    try:
        return [future.result() for future in futures]
    except KeyboardInterrupt:
        known = [future.result() if future.status == "finished" else None for future in futures]
        raise CutShort(known) from None


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
class Budget:
    """What many checks may use in all: each a worker's part of the memory, and what is left of the time."""

    memory: int
    sharers: int
    until: float

    @classmethod
    def of(cls, limits: Limits, pool: Workers) -> "Budget":
        """From now on."""
        return cls(limits.memory // pool.width, limits.sharers * pool.width, time.time() + limits.seconds)

    @property
    def over(self) -> bool:
        return time.time() > self.until

    def limits(self) -> Limits:
        return Limits(self.memory, self.sharers, max(0.0, self.until - time.time()))
