"""Where a user's own files are, which directories nobody else can put anything into, and what is kept in those."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

DEEPEST_LINK = 40
"""Symbolic links on the way to a directory, as the kernel has it."""
_CORE = "pagewarden-core-"
DIGEST = hashlib.sha256().digest_size


def core_directory(pid: int) -> Path:
    """Where that process dumps its core."""
    return Path(os.environ.get("TMPDIR", "/tmp")) / f"{_CORE}{pid}"


def forget_cores() -> None:
    """Remove what processes that are gone have left there: a core holds memory. Another user's, and what cannot be
    removed, stays (shutil.rmtree follows no symbolic link)."""
    for left in core_directory(0).parent.glob(f"{_CORE}*"):
        with suppress(OSError):
            pid = left.name.removeprefix(_CORE)
            if left.lstat().st_uid == os.geteuid() and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left)


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


_kept: dict[Path, Path] = {}


def keep_private_cache() -> None:
    """Look at the directory for caches now, and believe it from then on: before a new user namespace, where nobody sees
    whose the directories above it are."""
    home = cache_home()
    place = private_cache()
    if home is not None and place is not None:
        _kept[home] = place


def private(path: Path) -> Path | None:
    """The directory, made if need be, when nobody but this user and root can change what is in it; else None.

    Each level belongs to this user or root and nobody else may write it (a sticky one of root's, as /tmp, may be
    shared), the last one belongs to this user. Symbolic links are root's own, or the directory is not used.
    """
    with suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        above = _kept.get(path.parent)
        place = _kept.get(path) or (above / path.name if above else _real(path))
        safe = place is not None and _safe(place.lstat(), last=True)
        if place is not None and safe and place.stat().st_uid == os.geteuid() and os.access(place, os.W_OK | os.X_OK):
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


def kept(path: Path, key: bytes) -> bytes | None:
    """What `keep` has put there under this key; None when it is not there, belongs to somebody else or may be written
    by others, or is not what was put there."""
    with suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        about = os.fstat(file.fileno())
        if stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022:
            digest, data = file.read(DIGEST), file.read()
            if digest == _digest(key, data):
                return data
    return None


def keep(path: Path, key: bytes, data: bytes) -> None:
    """Put it there, whole or not at all, with a digest of the key and of itself; where that cannot be done, nothing."""
    with suppress(OSError):
        put(path, _digest(key, data) + data)


def put(path: Path, data: bytes, mode: int = 0o600, lasting: bool = False) -> None:
    """Put it there, whole or not at all (rename(2)); lasting: on the disk before its name leads to it. OSError."""
    fd, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(fd)
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _digest(key: bytes, data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(key).digest() + data).digest()


def all_but_newest(paths: Iterable[Path], count: int) -> list[Path]:
    """Those beyond the `count` that were changed last: they can go."""
    dated = []
    for path in paths:
        with suppress(OSError):
            dated.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(dated, reverse=True)[count:]]
