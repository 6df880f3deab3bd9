"""What a wheel holds, and what it says of itself."""

import re
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest

from pagewarden import __version__
from release import ROOT, wheel

DATA = {
    "pagewarden/py.typed",
    "pagewarden/check/bugs.toml",
    "pagewarden/lab/init.sh",
    "pagewarden/law/sources.toml",
    "pagewarden/law/statements.toml",
    "pagewarden/report/pages/frame.css",
    "pagewarden/report/pages/frame.js",
    "pagewarden/workload/fio/options.toml",
    *(f"pagewarden/cost/profiles/{path.name}" for path in (ROOT / "src/pagewarden/cost/profiles").glob("*.toml")),
}
"""What the package reads; all else is Python."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    return ZipFile(wheel(tmp_path_factory.mktemp("wheel")))


def test_it_holds_the_package_and_nothing_else(made: ZipFile) -> None:
    names = {name for name in made.namelist() if ".dist-info/" not in name}
    package = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert names == package | DATA
    assert made.testzip() is None and sum(item.compress_size for item in made.infolist()) < 2 << 20


def test_it_needs_no_compiler_and_says_so(made: ZipFile) -> None:
    assert Path(made.filename or "").name == f"pagewarden-{__version__}-py3-none-any.whl"
    head = message_from_string(made.read(f"pagewarden-{__version__}.dist-info/METADATA").decode())
    assert head["Version"] == __version__ and head["Requires-Python"] == ">=3.11"
    plain = [need for need in head.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert {re.split(r"[<>= ]", need)[0] for need in plain} == {"numpy", "numba", "msgspec", "typer", "rich"}


def test_the_changelog_is_of_this_version() -> None:
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == __version__ and len(set(heads)) == len(heads)
