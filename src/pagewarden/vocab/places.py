"""Where a user's own files are, and which directories nobody else can put anything into."""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

DEEPEST_LINK = 40
"""Symbolic links on the way to a directory, as the kernel has it."""


def config_home() -> Path | None:
    """Where this user's settings are (XDG base directories); None for a user without a home."""
    return _home("XDG_CONFIG_HOME", ".config")


def cache_home() -> Path | None:
    """Where this user's caches are (XDG base directories); None for a user without a home."""
    return _home("XDG_CACHE_HOME", ".cache")


def _home(variable: str, otherwise: str) -> Path | None:
    named = os.environ.get(variable, "")
    if named.startswith("/"):  # a relative path is ignored, says the specification
        return Path(named) / "pagewarden"
    with suppress(RuntimeError):
        return Path.home() / otherwise / "pagewarden"
    return None


def private_cache(name: str = "") -> Path | None:
    """A directory for caches, made if need be; None where there is none that only this user can write."""
    home = cache_home()
    return None if home is None else private(home / name)


def private(path: Path) -> Path | None:
    """The directory, made if need be, when nobody but this user and root can change what is in it; else None.

    Each level belongs to this user or root and nobody else may write it (a sticky one of root's, as /tmp, may be
    shared), the last one belongs to this user. Symbolic links are root's own, or the directory is not used.
    """
    with suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = _real(path)
        if place is not None and place.stat().st_uid == os.geteuid() and os.access(place, os.W_OK | os.X_OK):
            return place
    return None


def _real(path: Path) -> Path | None:
    """Level by level from the root down; None where one is not to be trusted."""
    todo, here, links = list(reversed(path.parts[1:])), Path("/"), 0
    if not path.is_absolute() or not _safe(here.lstat(), last=not todo):
        return None
    while todo:
        level = todo.pop()
        here = here.parent if level == ".." else here / level
        about = here.lstat()
        if stat.S_ISLNK(about.st_mode):
            links += 1
            if about.st_uid != 0 or links > DEEPEST_LINK:
                return None
            target = Path(os.readlink(here))
            todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            here = Path("/") if target.is_absolute() else here.parent
        elif not _safe(about, last=not todo):
            return None
    return here


def _safe(about: os.stat_result, last: bool) -> bool:
    mine, roots = about.st_uid == os.geteuid(), about.st_uid == 0
    shared = bool(about.st_mode & 0o022) and not (roots and not last and about.st_mode & stat.S_ISVTX)
    return stat.S_ISDIR(about.st_mode) and (mine or roots) and not shared


def own_file(fd: int) -> bool:
    """Whether an open file is a plain one of this user's that nobody else may write."""
    about = os.fstat(fd)
    return stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022


def all_but_newest(paths: Iterable[Path], count: int) -> list[Path]:
    """Those beyond the `count` that were changed last: they can go."""
    dated = []
    for path in paths:
        with suppress(OSError):
            dated.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(dated, reverse=True)[count:]]
