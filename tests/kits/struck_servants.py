"""Faults on purpose in the zygote and in the host sides that it forks: importing this there counts their system calls.

What is struck is said in a file that this process, the zygote and its children have mapped: `Plan`.
"""

import builtins
import errno
import mmap
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pagewarden.memory.isolated import forking
from pagewarden.memory.isolated.side import HostSide
from spawn_faults import ERRNOS, Counted, every_call

E = errno
MORE: dict[str, tuple[int, ...]] = {
    **ERRNOS,
    "pidfd_open": (E.EMFILE, E.ENFILE, E.ENOMEM, E.EINVAL),
    "dup2": (E.EBUSY, E.EMFILE),
    "listdir": (E.ENOMEM, E.EMFILE),
    "setrlimit": (E.EPERM,),
    "setres": (E.EAGAIN, E.EPERM),
    "setgroups": (E.ENOMEM, E.EPERM),
}
"""What the manual pages list for the calls that only these processes make."""
NAMES = ["", *MORE]
MEMORY = -1
"""Instead of the number of an errno: MemoryError."""


class Role(IntEnum):
    NOBODY = 0
    ZYGOTE = 1
    HOST = 2


class Plan:
    """Which call (from 1) of whom fails, and so does the one `gap` later; `made` and `struck` are told by role."""

    SIZE = 10

    def __init__(self, path: Path) -> None:
        with open(path, "a+b") as file:
            file.truncate(8 * self.SIZE)
            self._words = memoryview(mmap.mmap(file.fileno(), 8 * self.SIZE)).cast("q")

    def strike(self, role: Role, fatal: int, gap: int, which: int) -> None:
        self._words[:] = memoryview(bytes(8 * self.SIZE)).cast("q")
        self._words[1], self._words[2], self._words[3] = fatal, gap, which
        self._words[0] = role

    def rest(self) -> None:
        self._words[0] = Role.NOBODY

    def made(self, role: Role) -> int:
        return self._words[3 + role]

    def struck(self, role: Role) -> str:
        return NAMES[self._words[5 + role]]

    def choose(self, role: Role, made: int, name: str) -> BaseException | None:
        if self._words[0] != role:
            return None
        self._words[3 + role] = max(self._words[3 + role], made)
        fatal, gap, which = self._words[1:4].tolist()
        if made not in (fatal, fatal + gap) or (which != MEMORY and which >= len(MORE[name])):
            return None
        self._words[5 + role] = NAMES.index(name)
        return MemoryError("on purpose") if which == MEMORY else OSError(MORE[name][which], "on purpose")


def path() -> Path:
    """Where the plan is; TMPDIR is what a zygote is told of."""
    return Path(tempfile.gettempdir(), "plan")


@contextmanager
def _counting(counted: Counted) -> Iterator[None]:
    with every_call(counted), pytest.MonkeyPatch.context() as patch:
        for module, names in {
            os: ("pidfd_open", "dup2", "listdir", "setgroups"),
            resource: ("setrlimit",),
        }.items():
            for name in names:
                patch.setattr(module, name, counted.wrapped(name, getattr(module, name)))
        for name in ("setresuid", "setresgid"):
            patch.setattr(os, name, counted.wrapped("setres", getattr(os, name)))
        patch.setattr(builtins, "open", counted.wrapped("open", open))
        patch.setattr(os, "fork", counted.wrapped("fork", os.fork))
        yield


_FOR_GOOD = ExitStack()
_ROLE = [Role.ZYGOTE]


class _Kinds(Counted):
    """Counts the calls through the door that differ in more than their later arguments: of a loop over all
    capabilities the first."""

    seen: ClassVar[set[object]] = set()

    def forget(self) -> None:
        self.made = 0
        self.seen.clear()

    def around(self, name: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if name == "door":
            kind = tuple(getattr(each, "value", each) for each in arguments[:2])
            if kind in self.seen:
                return call(*arguments, **named)
            self.seen.add(kind)
        return super().around(name, call, *arguments, **named)


def _be_struck() -> None:
    """In the zygote, for good."""
    plan = Plan(path())
    counted = _Kinds(lambda made, name: plan.choose(_ROLE[0], made, name))
    serve = forking._Life._serve

    def served(life: forking._Life) -> bool:
        counted.forget()
        return serve(life)

    def born() -> None:
        _ROLE[0] = Role.HOST
        counted.forget()

    os.register_at_fork(after_in_child=born)
    setattr(forking._Life, "_serve", served)  # noqa: B010  to the type checker it is a constant
    _FOR_GOOD.enter_context(_counting(counted))


def stay(host: HostSide) -> None:
    """Say that it runs, and wait to be told to end; no fault comes any more."""
    _ROLE[0] = Role.NOBODY
    host.report(1)
    host.listen()


if getattr(sys.modules["__main__"].__spec__, "name", "") == "pagewarden.memory.isolated.__main__":
    _be_struck()
