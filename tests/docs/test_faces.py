"""The faces of the packages: what each shows as its shortest use runs as it stands."""

import ast
import textwrap
from pathlib import Path

import pytest

from pagewarden import __version__

ROOT = Path(__file__).parent.parent.parent
NEEDS_MORE = {"lab": "a kernel is fetched and booted"}


def shown(face: Path) -> str:
    """The indented lines of a package's docstring."""
    lines = (ast.get_docstring(ast.parse(face.read_text())) or "").split("\n")
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))


FACES = {
    face.parent.name: code
    for face in sorted((ROOT / "src" / "pagewarden").rglob("__init__.py"))
    if (code := shown(face).strip()) and face.parent.name not in NEEDS_MORE
}


def test_the_rooms_show_their_use() -> None:
    assert {
        "workload",
        "virtio",
        "sim",
        "law",
        "cost",
        "designs",
        "guest",
        "check",
        "studies",
        "kernel",
        "memory",
    } <= set(FACES)


@pytest.mark.parametrize("room", FACES)
def test_a_face_runs(room: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(FACES[room], room, "exec"), {})
    assert capsys.readouterr().out or "print" not in FACES[room]


def test_the_citation_names_this_version() -> None:
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
