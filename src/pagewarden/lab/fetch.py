"""Which kernel is meant, and where it is had from: Debian's packages, the cache, or a file of the user's."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pagewarden.lab import packages
from pagewarden.lab.packages import Tell
from pagewarden.vocab import Unavailable, UserMistake

Architecture: TypeAlias = Literal["amd64", "arm64"]
"""As Debian names it."""
NAMED = ("6.1", "6.12", "7.3", "7.3/arm64")
"""Kernels that `pagewarden probe --kernels` names first, whether the archive has them or not."""
PREFIX = "debian:"
ARM64_MAGIC, ARM64_MAGIC_AT = b"ARM\x64", 56
"""In the header of an arm64 image (Documentation/arch/arm64/booting.rst)."""
X86_MAGIC, X86_MAGIC_AT = b"HdrS", 0x202
"""In the setup header of a bzImage (Documentation/arch/x86/boot.rst)."""
X86_VMLINUX = b"\x02\0\x3e\0"
"""e_type ET_EXEC and e_machine EM_X86_64 of an ELF header (include/uapi/linux/elf.h): most programs are ET_DYN."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One that can be booted. modules: the directory that its modules lie under, None when all are built in."""

    name: str  # as it was asked for
    image: Path
    modules: Path | None
    architecture: Architecture = "amd64"


@dataclass(frozen=True, slots=True)
class Offer:
    """A kernel that the archive has, or had; there: it lies in the cache."""

    name: str
    version: str
    there: bool


def kernel(name: str, say: Tell = lambda what: None, modules: Path | None = None) -> Kernel:
    """`debian:6.12` or `debian:7.3/arm64`, the newest such that is to be had, or the path of an image; modules: where
    the image's lie. UserMistake, Unavailable."""
    if not name.startswith(PREFIX):
        return of_the_user(Path(name), modules)
    if modules is not None:
        raise UserMistake(f"{name} has modules of its own: they are named with an image's path only")
    series, _, named = name.removeprefix(PREFIX).partition("/")
    architecture = next((known for known in get_args(Architecture) if known == (named or "amd64")), None)
    if not re.fullmatch(r"\d+\.\d+", series) or architecture is None:
        raise UserMistake(f"{name}: expected {' or '.join(map(PREFIX.__add__, NAMED[-2:]))}, or the path of an image")
    try:
        version = newest(series, available(architecture, say))
    except Unavailable as lack:
        version = newest(series, unpacked(architecture))
        if version is None:
            raise
        say(f"the archive does not answer ({lack.what}): {version} of the cache is taken")
    if version is None:
        had = ", ".join(series_of(available(architecture, say)))
        raise Unavailable(f"the archive has no kernel {series} of {architecture}", f"it has {had}")
    if version not in unpacked(architecture):
        unpack(version, architecture, say)
    return of_the_cache(name, version, architecture)


def of_the_user(image: Path, modules: Path | None = None) -> Kernel:
    """An image with its modules: those named, or where packages put them: beside it, or in lib/modules under the same
    root."""
    if not image.is_file():
        raise UserMistake(f"{image}: no such kernel image; name one, or one that `pagewarden probe --kernels` lists")
    image = image.resolve()
    if modules is not None and not any(modules.rglob("*.ko*")):
        raise UserMistake(f"{modules}: no modules in this directory")
    version = image.name.partition("-")[2]
    places = [image.parent, image.parent.parent / "lib" / "modules" / version]
    found = modules or next((place for place in places if (place / "kernel").is_dir()), None)
    return Kernel(str(image), image, found, _made_for(image))


def _made_for(image: Path) -> Architecture:
    """By its header; UserMistake where it has none."""
    with image.open("rb") as file:
        head = file.read(1024)
    if head[ARM64_MAGIC_AT:].startswith(ARM64_MAGIC):
        return "arm64"
    if head[X86_MAGIC_AT:].startswith(X86_MAGIC) or (head.startswith(b"\x7fELF") and head[16:20] == X86_VMLINUX):
        return "amd64"
    raise UserMistake(
        f"{image} is no kernel image: it has the header of neither a bzImage nor an x86-64 vmlinux nor an arm64 Image; "
        "a compressed Image is to be unpacked first"
    )


def offers(say: Tell = lambda what: None) -> list[Offer]:
    """The newest of each series that the archive or the cache has, and those in NAMED; the archive need not answer."""
    return [*_offers("amd64", "", say), *_offers("arm64", "/arm64", say)]


def _offers(architecture: Architecture, ending: str, say: Tell) -> list[Offer]:
    there = unpacked(architecture)
    try:
        known = [*available(architecture, say), *there]
    except Unavailable:
        known = there
    named = [name.removesuffix(ending) for name in NAMED if name.endswith(ending) and ("/" in name) == bool(ending)]
    newest_ones = {series: newest(series, known) for series in dict.fromkeys([*named, *series_of(known)])}
    return [
        Offer(PREFIX + series + ending, version or "not to be had here", version in there)
        for series, version in newest_ones.items()
    ]


def unpacked(architecture: Architecture = "amd64") -> list[str]:
    """Versions that lie in the cache."""
    places = packages.of("kernels", architecture).glob("*")
    return [path.name for path in places if not path.name.startswith(".")]


def of_the_cache(name: str, version: str, architecture: Architecture) -> Kernel:
    """The kernel of that version, which lies in the cache."""
    place = packages.of("kernels", architecture) / version
    images = [*place.glob("boot/vmlinuz-*"), *place.glob("usr/lib/modules/*/vmlinuz")]
    modules = [*place.glob("lib/modules/*"), *place.glob("usr/lib/modules/*")]
    return Kernel(name, images[0], modules[0], architecture)


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


def available(architecture: Architecture, say: Tell) -> list[str]:
    """Versions of the kernels that the archive has; Unavailable."""
    kinds = rf"linux-(?:image|binary)-(\d\S*)-{flavour(architecture)}"
    with packages.archive(say, architecture) as apt:
        return sorted(set(re.findall(rf"^{kinds}$", apt("apt-cache", "pkgnames"), re.MULTILINE)), key=order)


def flavour(architecture: Architecture) -> str:
    """The smallest, with all that a virtual machine needs."""
    return f"cloud-{architecture}"


def unpack(version: str, architecture: Architecture, say: Tell) -> None:
    """Bring the packages of a version into the cache."""
    with packages.archive(say, architecture) as apt:
        names = set(apt("apt-cache", "pkgnames").split())
        parts = [f"linux-{part}-{version}-{flavour(architecture)}" for part in ("binary", "modules", "image")]
        chosen = parts[:2] if parts[0] in names else parts[2:]  # image is a mere name for the two where they exist
        packages.bring(chosen, packages.of("kernels", architecture) / version, apt, say)
