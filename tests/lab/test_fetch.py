"""Which kernel is meant, where it is had from, and what is said when it is not to be had."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pagewarden.lab import fetch, packages
from pagewarden.vocab import Unavailable, UserMistake

TARGETS = """\
http://archive.example/debian/ bookworm Debian
http://archive.example/debian/ bookworm-updates Debian
http://archive.example/debian-security/ bookworm-security Debian
https://elsewhere.example/ nodistro Somebody
"""
NAMES = """\
linux-image-6.12.43+deb12-cloud-amd64
linux-image-6.12.117+deb12-cloud-amd64
linux-image-6.12.117+deb12-cloud-amd64-dbg
linux-image-6.12.118+deb12-amd64
linux-image-6.1.0-47-cloud-amd64
linux-image-6.1.0-5-cloud-amd64
linux-image-6.16.3-cloud-amd64
linux-image-7.3.4+deb13-cloud-amd64
linux-binary-7.3.4+deb13-cloud-amd64
linux-modules-7.3.4+deb13-cloud-amd64
linux-binary-7.3.4+deb13-cloud-arm64
linux-modules-7.3.4+deb13-cloud-arm64
"""


class Archive:
    """An apt that knows NAMES and downloads nothing but their names."""

    def __init__(self) -> None:
        self.downloaded: list[str] = []
        self.answers = True

    @contextmanager
    def open(self, say: packages.Tell, architecture: str = "amd64") -> Iterator[packages.Apt]:
        if not self.answers:
            raise Unavailable("apt-get failed: no route", "is the archive to be reached?")
        yield self.apt

    def apt(self, program: str, *words: str, cwd: str = "") -> str:
        if words[0] == "download":
            self.downloaded += words[1:]
            for name in words[1:]:
                Path(cwd, f"{name}.deb").write_text(name)
        return NAMES


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Archive:
    made = Archive()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packages, "archive", made.open)
    monkeypatch.setattr(packages, "run", lambda command, cwd=None: lay_out(Path(command[2]).stem, Path(command[3])))
    return made


def lay_out(package: str, root: Path) -> str:
    """What dpkg-deb would unpack of a package."""
    version = package.split("-", 2)[2]
    if "binary" in package:
        place = root / f"usr/lib/modules/{version}/vmlinuz"
    elif "modules" in package:
        place = root / f"usr/lib/modules/{version}/kernel/fs.ko"
    else:
        place = root / f"boot/vmlinuz-{version}"
        (root / f"lib/modules/{version}").mkdir(parents=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(package)
    return ""


def test_the_newest_of_a_series_is_taken_and_lies_in_the_cache_then(archive: Archive) -> None:
    kernel = fetch.kernel("debian:6.12")
    assert kernel.image.name == "vmlinuz-6.12.117+deb12-cloud-amd64" and kernel.modules is not None
    assert archive.downloaded == ["linux-image-6.12.117+deb12-cloud-amd64"]
    assert fetch.kernel("debian:6.12") == kernel and len(archive.downloaded) == 1
    assert fetch.kernel("debian:6.1").image.name == "vmlinuz-6.1.0-47-cloud-amd64", "47 is newer than 5"
    assert [(offer.name, offer.version, offer.there) for offer in fetch.offers()] == [
        ("debian:6.1", "6.1.0-47", True),
        ("debian:6.12", "6.12.117+deb12", True),
        ("debian:7.3", "7.3.4+deb13", False),
        ("debian:6.16", "6.16.3", False),
        ("debian:7.3/arm64", "7.3.4+deb13", False),
    ]


def test_an_image_in_two_packages_is_put_together(archive: Archive) -> None:
    kernel = fetch.kernel("debian:7.3")
    assert [name.split("-")[1] for name in archive.downloaded] == ["binary", "modules"]
    assert kernel.image.parent == kernel.modules


def test_each_architecture_has_its_own_place(archive: Archive) -> None:
    both = [fetch.kernel(name) for name in ("debian:7.3", "debian:7.3/arm64", "debian:7.3/amd64")]
    assert [kernel.architecture for kernel in both] == ["amd64", "arm64", "amd64"]
    assert both[1].image != both[0].image == both[2].image and len(archive.downloaded) == 4
    assert archive.downloaded[2] == "linux-binary-7.3.4+deb13-cloud-arm64"
    assert all(offer.there for offer in fetch.offers() if offer.name.startswith("debian:7.3"))


def test_without_an_archive_the_cache_will_do(archive: Archive) -> None:
    fetch.kernel("debian:6.12")
    archive.answers = False
    said: list[str] = []
    assert fetch.kernel("debian:6.12", said.append).image.name == "vmlinuz-6.12.117+deb12-cloud-amd64"
    assert "no route" in said[0] and "6.12.117" in said[0]
    with pytest.raises(Unavailable, match="no route"):
        fetch.kernel("debian:7.3")
    assert [offer.name for offer in fetch.offers() if offer.there] == ["debian:6.12"]


def test_half_a_download_leaves_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(command: list[str], cwd: str | None = None) -> str:
        raise Unavailable("dpkg-deb failed: No space left", "is there room?")

    monkeypatch.setattr(packages, "run", full)
    with pytest.raises(Unavailable, match="No space"):
        fetch.kernel("debian:6.12")
    assert fetch.unpacked() == [] and list((packages.home() / "kernels").iterdir()) == []


def test_what_the_archive_lacks_is_said_with_what_it_has(archive: Archive) -> None:
    with pytest.raises(Unavailable, match=r"no kernel 5\.4 of amd64; it has 6\.1, 6\.12, 6\.16, 7\.3"):
        fetch.kernel("debian:5.4")
    for wrong in ("debian:new", "debian:", "debian:7.3/../..", "debian:7.3/mips"):
        with pytest.raises(UserMistake, match="expected debian:"):
            fetch.kernel(wrong)
    with pytest.raises(UserMistake, match="no such kernel image"):
        fetch.kernel("/no/vmlinuz")


def elf(kind: int, machine: int) -> bytes:
    """e_type and e_machine behind the 16 bytes of e_ident."""
    return b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack("<HH", kind, machine).ljust(48, b"\0")


BZIMAGE = b"MZ".ljust(0x202, b"\0") + b"HdrS" + bytes(100)


def test_an_image_of_the_users_has_its_modules_beside_it_or_under_the_same_root(tmp_path: Path) -> None:
    image = tmp_path / "boot" / "vmlinuz-9.9-mine"
    image.parent.mkdir()
    image.write_bytes(BZIMAGE)
    assert fetch.kernel(str(image)).modules is None
    (tmp_path / "lib/modules/9.9-mine/kernel").mkdir(parents=True)
    assert fetch.kernel(str(image)).modules == tmp_path / "lib/modules/9.9-mine"
    (tmp_path / "other").mkdir()
    with pytest.raises(UserMistake, match="no modules"):
        fetch.kernel(str(image), modules=tmp_path / "other")
    (tmp_path / "other/kvm.ko.xz").write_text("")
    assert fetch.kernel(str(image), modules=tmp_path / "other").modules == tmp_path / "other"
    with pytest.raises(UserMistake, match="modules of its own"):
        fetch.kernel("debian:7.3", modules=tmp_path / "other")


def test_an_image_says_what_machine_it_is_for(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"MZ".ljust(56, b"\0") + b"ARM\x64" + bytes(100))
    assert fetch.kernel(str(image)).architecture == "arm64"
    for head in (BZIMAGE, elf(2, 62)):
        image.write_bytes(head)
        assert fetch.kernel(str(image)).architecture == "amd64"


NO_KERNELS = {
    "empty": b"",
    "script": b"#!/bin/sh\n",
    "MZ": b"MZ".ljust(2000, b"\0"),
    "gzip": b"\x1f\x8b".ljust(2000, b"\0"),
    "program": elf(3, 62),
    "vmlinux of arm64": elf(2, 183),
    "half an ELF header": b"\x7fELF\2\1\1",
}


@pytest.mark.parametrize("content", NO_KERNELS.values(), ids=NO_KERNELS)
def test_what_is_no_kernel_is_not_booted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserMistake, match="is no kernel image"):
        fetch.kernel(str(tmp_path / "file"))


def test_the_archives_are_those_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "run", lambda command, cwd=None: TARGETS)
    lines = packages.sources()
    assert f"deb [signed-by={packages.KEYRING}] http://archive.example/debian/ trixie-backports main" in lines
    assert any("debian-security/ bookworm-security main" in line for line in lines)
    assert all("signed-by" in line for line in lines) and not any("elsewhere" in line for line in lines)
    monkeypatch.setattr(packages, "run", lambda command, cwd=None: "")
    with pytest.raises(Unavailable, match="apt knows no archive"):
        packages.sources()
