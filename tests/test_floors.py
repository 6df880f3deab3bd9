"""Imports point down only: a module may import its own package and those on lower floors, never a sibling."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "pagewarden"
FLOORS = [
    {"vocab"},
    {"abi", "law", "port", "workload"},
    {"designs", "cost"},
    {"check", "sim", "live", "virtio", "vhost", "guest"},
    {"memory"},
    {"studies"},
    {"report"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
KERNEL_DOOR = {"fcntl", "mmap", "ctypes.CDLL"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    own = package_of(path)
    if own in ("__init__", "__main__"):
        return
    assert own in LEVEL, f"{own} has no floor"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "pagewarden" or len(parts) < 2 or parts[1] not in LEVEL or parts[1] == own:
            continue
        assert LEVEL[parts[1]] < LEVEL[own], f"{own} imports {parts[1]}, which is not below it"
        assert not (own == "live" and parts[1] in ("law", "designs")), "reality must not be told what to say"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_one_door_to_the_kernel(path: Path) -> None:
    if package_of(path) in ("live",):
        return
    found = imports(path) & KERNEL_DOOR
    assert not found and "CDLL(" not in path.read_text(), f"only live/ opens {sorted(found) or 'a library'}"
