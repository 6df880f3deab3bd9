"""Which kind of memory a caller gets, and why."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Literal, get_args

from pagewarden.abi.uffd import UFFD_FEATURE_RWP
from pagewarden.kernel.causes import lacking
from pagewarden.kernel.uffd import offered
from pagewarden.memory import backings
from pagewarden.memory.backings.protocol import KINDS, Backing, Use, Wanted
from pagewarden.memory.isolated.protected import IsolatedRwp
from pagewarden.memory.isolated.room import Level
from pagewarden.memory.isolated.window import IsolatedWindow
from pagewarden.vocab import Unavailable, UserMistake, one_of

for _found in iter_modules(backings.__path__):
    import_module(f"{backings.__name__}.{_found.name}")
ISOLATED = "an untrusted host is given a window that is opened and shut from another process, and nothing else is"
"""Why it was taken."""
BACKINGS = tuple(KINDS)
"""All names, strongest first."""


def what_each_stops() -> str:
    """A table in Markdown of all kinds."""
    rows = [f"| `{name}` | {kind.stops} | {kind.leaves} |" for name, kind in KINDS.items()]
    return "\n".join(["| backing | stops | does not stop |", "|---|---|---|", *rows])


def choose(wanted: Wanted, name: str, isolated: bool | Literal["best-effort"], use: Use) -> tuple[Backing, str]:
    """The backing and why it was taken; Unavailable, UserMistake."""
    name = one_of("backing", name, (*BACKINGS, "auto"))
    if isolated not in (False, True):
        isolated = one_of("isolated", str(isolated), ("best-effort",))  # type: ignore[assignment]  # it is that
    if wanted.vm is not None and (isolated or name not in ("auto", "guest-memfd")):
        raise UserMistake(f"vm is the KVM VM of a guest-memfd: {name} memory has none")
    if isolated:
        return _made(lambda each: _isolated(each, name, isolated), wanted), ISOLATED
    if name == "auto":
        return strongest(wanted, use)
    return _made(KINDS[name].make, wanted), "asked for"


def _isolated(wanted: Wanted, name: str, level: Level) -> Backing:
    if name not in ("auto", "uffd-rwp", "uffd-window"):
        raise UserMistake(f"{name} cannot be isolated: only a uffd-window or uffd-rwp is shut from another process")
    protects = name == "auto" and offered() & UFFD_FEATURE_RWP
    return (IsolatedRwp if protects or name == "uffd-rwp" else IsolatedWindow)(wanted, level)


def strongest(wanted: Wanted, use: Use) -> tuple[Backing, str]:
    """The strongest for the use that this host has, and why it was taken; Unavailable names every reason."""
    use = one_of("use", use, get_args(Use))  # type: ignore[assignment]  # it is one of them
    lacks: list[str] = []
    for name, kind in KINDS.items():
        if use in kind.reasons:
            try:
                made = _made(kind.make, wanted)
                why = f"the strongest for use={use!r} here: {kind.reasons[use]}"
                return made, f"{why} (not {'; not '.join(lacks)})" if lacks else why
            except Unavailable as lack:
                lacks.append(f"{name}: {lack}")
    raise Unavailable(
        f"no backing protects memory here ({'; '.join(lacks)})",
        "backing='memfd' runs anywhere, without any protection",
    )


def _made(make: Callable[[Wanted], Backing], wanted: Wanted) -> Backing:
    """Unavailable for whatever the kernel refuses, with its cause."""
    try:
        return make(wanted)
    except OSError as error:
        raise Unavailable(*lacking(error)) from error
