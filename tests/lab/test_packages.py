"""Packages come from archives that Debian's keyring vouches for, or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pagewarden.lab import packages
from pagewarden.vocab import Unavailable


@pytest.fixture
def archive_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An archive in a directory that nobody signed, and the cache of a user who has fetched nothing yet."""
    if not packages.KEYRING.exists():
        pytest.skip("no Debian: its keyring is missing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "archive"
    place.mkdir()
    (place / "Packages").write_text("Package: linux-image-9.9\nVersion: 1\nArchitecture: amd64\nFilename: ./x.deb\n")
    (place / "x.deb").write_bytes(b"no package")

    def known(option: str) -> Path:
        monkeypatch.setattr(packages, "sources", lambda: [f"deb [{option}] file:{place} ./"])
        return place

    return known


@pytest.mark.parametrize(
    "release", ["", "Suite: x\n", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSuite: x\n"]
)
def test_an_archive_without_a_signature_of_debians_is_refused(archive_at: Callable[[str], Path], release: str) -> None:
    place = archive_at(f"signed-by={packages.KEYRING}")
    if release:
        (place / ("InRelease" if "PGP" in release else "Release")).write_text(release)
    with pytest.raises(Unavailable, match="apt-get failed"), packages.archive(lambda what: None) as apt:
        apt("apt-get", "download", "linux-image-9.9", cwd=str(place))
    assert not (packages.of("apt", "amd64") / "sources.list").exists(), "the next time it is asked anew"


def test_the_same_archive_is_one_where_it_is_trusted(archive_at: Callable[[str], Path]) -> None:
    """So it is the signature that was missing."""
    archive_at("trusted=yes")
    with packages.archive(lambda what: None) as apt:
        assert "linux-image-9.9" in apt("apt-cache", "pkgnames")


def test_what_is_half_unpacked_is_not_there(tmp_path: Path) -> None:
    """A package that dpkg-deb cannot read leaves no place behind."""

    def apt(program: str, *arguments: str, cwd: str | None = None) -> str:
        (Path(str(cwd)) / "x.deb").write_bytes(b"no package")
        return ""

    with pytest.raises(Unavailable, match="dpkg-deb"):
        packages.bring(["x"], tmp_path / "place", apt, lambda what: None)
    assert list(tmp_path.iterdir()) == []
