"""Debian's packages by the system's own apt: its archives and keyring, sources and lists of our own.

Nothing is installed, and what a package would run is not: it is unpacked into the user's cache. apt checks the
archive's signature over every index and the index's hash over every package.
"""

import errno
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pagewarden.vocab import Unavailable
from pagewarden.vocab.places import cache_home

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RELEASES = ("bookworm", "trixie")
"""Debian's releases that packages are taken of, with what security and backports have for them."""
NATIVE = "amd64"
"""The architecture of a name that says none."""
FRESH = 24 * 3600
"""Seconds that an archive's lists are believed."""

Tell = Callable[[str], None]
"""say(what is being done)"""
Apt = Callable[..., str]
"""apt(program, arguments..., cwd=...): what it said; Unavailable."""


def home() -> Path:
    """Where packages, lists and sources lie. Unavailable: this user has no place for caches."""
    caches = cache_home()
    if caches is None:
        raise Unavailable("this user has no home directory for kernels", "set HOME, or XDG_CACHE_HOME")
    return caches / "lab"


def of(name: str, architecture: str) -> Path:
    """A place in `home` for what belongs to an architecture."""
    return home() / (name if architecture == NATIVE else f"{name}-{architecture}")


def bring(names: Sequence[str], place: Path, apt: Apt, say: Tell) -> None:
    """Download packages (name, or name/release) and lay what they hold into a place of the cache: all, or nothing."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as made:
        say(f"downloading {', '.join(names)}")
        apt("apt-get", "download", *names, cwd=made)
        for package in Path(made).glob("*.deb"):
            run(["dpkg-deb", "-x", str(package), f"{made}/root"])
        try:
            os.rename(f"{made}/root", place)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # somebody else has just brought the same
                raise


@contextmanager
def archive(say: Tell, architecture: str = NATIVE) -> Iterator[Apt]:
    """apt on our own sources and lists, which are fetched when they are old; Unavailable where it is no Debian."""
    if shutil.which("apt-get") is None or not KEYRING.exists():
        raise Unavailable("kernels come as Debian's packages, and this is no Debian", "name a kernel image by its path")
    place = of("apt", architecture)
    try:
        for part in ("lists/partial", "cache/archives/partial"):
            (place / part).mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise Unavailable(f"{place}: {refused.strerror}", "let XDG_CACHE_HOME name a place to write to") from refused
    options = {
        "Dir::Etc::sourcelist": place / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::Lists": place / "lists",
        "Dir::Cache": place / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
    }
    settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def apt(program: str, *arguments: str, cwd: str | None = None) -> str:
        return run([program, "-q", *settings, *arguments], cwd)

    stamp, wanted = place / "sources.list", "\n".join(sources()) + "\n"
    with (place / "lock").open("w") as lock:
        os.lockf(lock.fileno(), os.F_LOCK, 0)  # one at a time: apt would not wait for its own
        if not stamp.exists() or stamp.read_text() != wanted or time.time() - stamp.stat().st_mtime > FRESH:
            say("fetching the archive's lists")
            stamp.write_text(wanted)
            try:
                apt("apt-get", "update")
            except BaseException:
                stamp.unlink()
                raise
    yield apt


def sources() -> list[str]:
    """Lines for apt: the archives of the system's own sources, each with the suites that kernels are taken of."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(ORIGIN)", "Identifier: Packages"]
    known = [line.split() for line in run(asked).splitlines()]
    places = {suite: uri for uri, suite, *origin in known if origin == ["Debian"] or not origin}
    main = next((uri for suite, uri in places.items() if "-" not in suite), None)
    if main is None:
        raise Unavailable(
            "apt knows no archive of Debian here", "run apt-get update, or name a kernel image by its path"
        )
    suites = {name: main for release in RELEASES for name in (release, f"{release}-backports")}
    suites |= {suite: uri for suite, uri in places.items() if suite.endswith("-security")}
    return [f"deb [signed-by={KEYRING}] {uri} {suite} main" for suite, uri in suites.items()]


def release() -> str:
    """The code name of this system's release, "bookworm" say; Unavailable."""
    with suppress(OSError):
        lines = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
        if name := lines.get("VERSION_CODENAME"):
            return name.strip('"')
    raise Unavailable("/etc/os-release names no release", "install the package by hand")


def run(command: Sequence[str], cwd: str | None = None) -> str:
    """Its output; Unavailable with what it complained of."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        complaint = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise Unavailable(f"{command[0]} failed: {complaint}", "is the archive to be reached, and is there room?")
    return done.stdout
