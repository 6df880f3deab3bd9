"""Code is kept on disk as a pickle: what lies where somebody else could have put it is not even read.

The forgery has every digest right, and it is read where nobody but this user could have put it: that test shows that
the others could fail.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pagewarden.kernel.confine import NOBODY
from programs import KITS, WHO, interpreter_for, started
from waits import SOON

OTHER = 1000
Spoil = Callable[[Path], object]


def behind_a_link(path: Path) -> None:
    """Somebody else's."""
    path.rename(path.with_name("real"))
    path.symlink_to("real")
    os.lchown(path, OTHER, OTHER)


def theirs(path: Path) -> None:
    os.chown(path, OTHER, OTHER)


def with_mode(mode: int) -> Spoil:
    return lambda path: path.chmod(mode)


LEVELS = "the top", "the middle", "the last level", "the file"
"""The directory that XDG_CACHE_HOME names, and what is below it on the way."""
WAYS: dict[tuple[str, str], Spoil] = {
    ("the file", "is somebody else's"): theirs,
    ("the file", "may be written by others"): with_mode(0o666),
    ("the file", "is a link"): behind_a_link,
    **{
        (level, what): spoil
        for level in LEVELS[:3]
        for what, spoil in {
            "is somebody else's": theirs,
            "may be written by others": with_mode(0o777),
            "may be written by a group": with_mode(0o775),
            "is sticky and shared": with_mode(0o1777),
            "is behind somebody else's link": behind_a_link,
        }.items()
    },
}
UNSPOILT = ("nothing", "is spoilt")


def run(who: str, identity: str, home: Path, *arguments: str) -> list[str]:
    """The kit's words, by the interpreter that `who` uses, which is a part of the key."""
    command = str(KITS / "cached.py"), *arguments
    with started(identity, interpreter_for(who), *command, more={"XDG_CACHE_HOME": str(home)}) as program:
        said, words = program.communicate(timeout=SOON)
    assert program.returncode == 0, words
    return said.splitlines()


@pytest.fixture(scope="module", params=WHO)
def read(request: pytest.FixtureRequest) -> dict[tuple[str, str], bool]:
    """For each way to spoil the cache of root, or of an ordinary user: is the forgery read?"""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    who: str = request.param
    user = NOBODY if who == "ordinary" else 0
    with tempfile.TemporaryDirectory(prefix="pagewarden-", dir="/tmp") as name:
        top = Path(name)
        marker, first = top / "sprung" / "marker", top / "first" / "cache"
        first.mkdir(parents=True)
        marker.parent.mkdir()
        for directory, mode in ((top, 0o755), (marker.parent, 0o777)):
            directory.chmod(mode)
        (file,) = run(who, "root", first, "forge", str(marker))
        below = Path(file).relative_to(first)
        homes = [top / f"home-{k}" / "cache" for k in range(len(WAYS) + 1)]
        for home, ((level, _), spoil) in zip(homes, [*WAYS.items(), (UNSPOILT, lambda path: None)], strict=True):
            shutil.copytree(first, home)
            levels = home, home / below.parts[0], home / below.parent, home / below
            for path in (home.parent, *levels):
                os.chown(path, user, user)
            spoil(dict(zip(LEVELS, levels, strict=True)).get(level, home))
        lines = run(who, who, first, "load", str(marker), *map(str, homes))
    found = dict(zip([*WAYS, UNSPOILT], (line == "True" for line in lines), strict=True))
    if not user:  # a sticky directory of root's, as /tmp is: there the owner of what is in it is looked at
        assert found.pop(("the top", "is sticky and shared"))
    return found


def test_it_is_read_where_nobody_else_could_put_it(read: dict[tuple[str, str], bool]) -> None:
    assert read[UNSPOILT]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_it_is_not_read_where_somebody_else_could(read: dict[tuple[str, str], bool], way: tuple[str, str]) -> None:
    assert not read.get(way)
