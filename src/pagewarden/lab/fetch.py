"""Kernels as Debian's packages, by the system's own apt: its archives and keyring, sources and lists of our own.

Nothing is installed, and what a package would run is not: it is unpacked into the user's cache. apt checks the
archive's signature over every index and the index's hash over every package.
"""

import errno
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pagewarden.vocab import Unavailable, UserMistake
from pagewarden.vocab.places import cache_home

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RELEASES = ("bookworm", "trixie")
"""Debian's releases that kernels are taken of, with what security and backports have for them."""
NAMED = ("6.1", "6.12", "7.3")
"""Kernels that `pagewarden probe --kernels` names; any other that the archive has can be asked for as well."""
FLAVOUR = "cloud-amd64"
"""The smallest, with all that a virtual machine needs."""
PREFIX = "debian:"
FRESH = 24 * 3600
"""Seconds that an archive's lists are believed."""

Tell = Callable[[str], None]
"""say(what is being done)"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One that can be booted. modules: the directory that its modules lie under, None when all are built in."""

    name: str  # as it was asked for
    image: Path
    modules: Path | None


@dataclass(frozen=True, slots=True)
class Offer:
    """A kernel that the archive has, or had; there: it lies in the cache."""

    name: str
    version: str
    there: bool


def kernel(name: str, say: Tell = lambda what: None) -> Kernel:
    """`debian:6.12`, the newest such that is to be had, or the path of an image; UserMistake, Unavailable."""
    if not name.startswith(PREFIX):
        return of_the_user(Path(name))
    series = name.removeprefix(PREFIX)
    if not re.fullmatch(r"\d+\.\d+", series):
        raise UserMistake(f"{name}: expected {PREFIX} and a version such as {NAMED[-1]}, or the path of a kernel image")
    try:
        version = newest(series, available(say))
    except Unavailable as lack:
        version = newest(series, unpacked())
        if version is None:
            raise
        say(f"the archive does not answer ({lack.what}): {version} of the cache is taken")
    if version is None:
        raise Unavailable(
            f"the archive has no kernel {series}", f"it has {', '.join(map(str, series_of(available(say))))}"
        )
    if version not in unpacked():
        unpack(version, say)
    return of_the_cache(name, version)


def of_the_user(image: Path) -> Kernel:
    """An image with its modules, where packages put them: beside it, or in lib/modules under the same root."""
    if not image.is_file():
        raise UserMistake(f"{image}: no such kernel image")
    image = image.resolve()
    version = image.name.partition("-")[2]
    for place in (image.parent, image.parent.parent / "lib" / "modules" / version):
        if (place / "kernel").is_dir():
            return Kernel(str(image), image, place)
    return Kernel(str(image), image, None)


def offers(say: Tell = lambda what: None) -> list[Offer]:
    """The newest of each series in NAMED, and what else lies in the cache; the archive need not answer."""
    there = unpacked()
    try:
        known = [*available(say), *there]
    except Unavailable:
        known = there
    newest_ones = {series: newest(series, known) for series in dict.fromkeys([*NAMED, *series_of(there)])}
    return [
        Offer(PREFIX + series, version or "not to be had here", version in there)
        for series, version in newest_ones.items()
    ]


def home() -> Path:
    """Where kernels, lists and sources lie. Unavailable: this user has no place for caches."""
    caches = cache_home()
    if caches is None:
        raise Unavailable("this user has no home directory for kernels", "set HOME, or XDG_CACHE_HOME")
    return caches / "lab"


def unpacked() -> list[str]:
    """Versions that lie in the cache."""
    return [path.name for path in (home() / "kernels").glob("*") if not path.name.startswith(".")]


def of_the_cache(name: str, version: str) -> Kernel:
    """The kernel of that version, which lies in the cache."""
    place = home() / "kernels" / version
    images = [*place.glob("boot/vmlinuz-*"), *place.glob("usr/lib/modules/*/vmlinuz")]
    modules = [*place.glob("lib/modules/*"), *place.glob("usr/lib/modules/*")]
    return Kernel(name, images[0], modules[0])


def order(version: str) -> tuple[int, ...]:
    """Versions of one archive in their order: the numbers in them."""
    return tuple(map(int, re.findall(r"\d+", version)))


def newest(series: str, versions: Sequence[str]) -> str | None:
    """The newest version of a series such as 6.12, None where there is none."""
    return max(
        (version for version in versions if re.match(rf"{re.escape(series)}\D", version)), key=order, default=None
    )


def series_of(versions: Sequence[str]) -> list[str]:
    """6.12 of 6.12.117+deb12, each once, in order."""
    found = {match[0] for version in versions if (match := re.match(r"\d+\.\d+", version))}
    return sorted(found, key=order)


def available(say: Tell) -> list[str]:
    """Versions of the kernels that the archive has; Unavailable."""
    kinds = rf"linux-(?:image|binary)-(\d\S*)-{FLAVOUR}"
    with archive(say) as apt:
        return sorted(set(re.findall(rf"^{kinds}$", apt("apt-cache", "pkgnames"), re.MULTILINE)), key=order)


def unpack(version: str, say: Tell) -> None:
    """Download the packages of a version and lay what they hold into the cache, all of it or nothing."""
    with archive(say) as apt:
        names = set(apt("apt-cache", "pkgnames").split())
        parts = [f"linux-{part}-{version}-{FLAVOUR}" for part in ("binary", "modules", "image")]
        chosen = parts[:2] if parts[0] in names else parts[2:]  # image is a mere name for the two where they exist
        kernels = home() / "kernels"
        kernels.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kernels, prefix=".") as made:
            say(f"downloading {', '.join(chosen)}")
            apt("apt-get", "download", *chosen, cwd=made)
            for package in Path(made).glob("*.deb"):
                run(["dpkg-deb", "-x", str(package), f"{made}/root"])
            try:
                os.rename(f"{made}/root", kernels / version)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # somebody else has just brought the same
                    raise


Apt = Callable[..., str]
"""apt(program, arguments..., cwd=...): what it said; Unavailable."""


@contextmanager
def archive(say: Tell) -> Iterator[Apt]:
    """apt on our own sources and lists, which are fetched when they are old; Unavailable where it is no Debian."""
    if shutil.which("apt-get") is None or not KEYRING.exists():
        raise Unavailable("kernels come as Debian's packages, and this is no Debian", "name a kernel image by its path")
    place = home() / "apt"
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
    }
    settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def apt(program: str, *arguments: str, cwd: str | None = None) -> str:
        return run([program, "-q", *settings, *arguments], cwd)

    stamp, wanted = place / "sources.list", "\n".join(sources()) + "\n"
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


def run(command: Sequence[str], cwd: str | None = None) -> str:
    """Its output; Unavailable with what it complained of."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        complaint = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise Unavailable(f"{command[0]} failed: {complaint}", "is the archive to be reached, and is there room?")
    return done.stdout
