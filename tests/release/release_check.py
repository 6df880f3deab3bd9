"""The release, used: `make release-check`. On each Python from 3.11 to 3.14 that is here the wheel that the sdist makes
is installed without a compiler, and its command used from an empty folder. Not of `make test`: it takes a minute."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from pagewarden import __version__
from release import ROOT, sdist, wheel

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
LIMIT = 0.15
"""Seconds that `--help` and an import may take."""


def python_of(version: str) -> str | None:
    """A Python of this version: on the path, this one, or one of pyenv's."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    tried = [
        *sorted(map(str, folder.glob(f"{version}.*/bin/python"))),
        shutil.which(f"python{version}"),
        sys.executable,
    ]
    for path in filter(None, tried):
        said = subprocess.run([path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True)
        if said.stdout.decode().strip() == version:
            return path
    return None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("release")
    with tarfile.open(sdist(where)) as packed:
        packed.extractall(where, filter="data")
    return wheel(where, where / f"pagewarden-{__version__}")


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_installed_and_used(version: str, built: Path, tmp_path: Path) -> None:
    python = python_of(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    no_compiler = {**os.environ, "CC": "false", "CXX": "false", "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run(
        [tmp_path / "venv/bin/pip", "install", "--quiet", "--only-binary", ":all:", built], check=True, env=no_compiler
    )
    (tmp_path / "empty").mkdir()

    def said(*arguments: str | Path) -> str:
        command = tmp_path / "venv/bin/pagewarden"
        ended = subprocess.run(
            [command, *arguments], cwd=tmp_path / "empty", env=no_compiler, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert said("--version") == f"pagewarden {__version__}\n"
    assert said("compare", ROOT / "examples/randrw.iolog").startswith("Answer: ")
    assert "holds" in said("check", "--pages", "1", "--vcpus", "1", "--stranger", "strace")
    for words in (
        ["pagewarden", "--help"],
        ["pagewarden", "compare", "--help"],
        ["python", "-c", "import pagewarden.memory"],
    ):
        took = min(_seconds([tmp_path / "venv/bin" / words[0], *words[1:]]) for _ in range(5))
        print(f"{version}: {' '.join(words)}: {took:.3f} s")
        assert took < LIMIT


def _seconds(command: list[str | Path]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


def test_pipx_runs_it_without_an_installation(built: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "--quiet", "pipx"], check=True)
    own = {**os.environ, "PIPX_HOME": str(tmp_path / "pipx"), "XDG_CACHE_HOME": str(tmp_path)}
    words = ["run", "--spec", str(built), "pagewarden", "compare", f"{ROOT}/examples/randrw.iolog"]
    ended = subprocess.run([tmp_path / "venv/bin/pipx", *words], env=own, capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout.startswith("Answer: "), ended.stderr
