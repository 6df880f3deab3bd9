"""Imports point down only: no package and no module imports what imports it, and the rooms stay small."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from pagewarden.kernel.machine import X86_64_ONLY

SOURCE = Path(__file__).parent.parent / "src" / "pagewarden"
FLOORS = [
    {"vocab"},
    {"abi", "law", "port", "workload"},
    {"designs", "cost", "kernel"},
    {"check", "sim", "virtio", "guest", "memory", "lab"},
    {"keep", "probe", "vhost"},
    {"studies"},
    {"report"},
    {"cli"},
]
"""A package may import what stands on lower floors, never a sibling."""
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
REALITY = {"keep", "kernel", "memory", "probe"}
"""What never imports the law: reality must not be told what to say."""
KERNEL_DOOR = {"fcntl", "mmap", "ctypes.CDLL", "ctypes.PyDLL", "ctypes.cdll", "ctypes.pythonapi", "ctypes.util"}
OPENS = re.compile(r"\b(CDLL|PyDLL|LoadLibrary)\(|\bctypes\.(cdll|pythonapi)\b")
LARGEST_SHARE = 0.16
"""Of all lines, that one folder may hold."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def named(path: Path) -> str:
    """The module's dotted name below pagewarden; "" for the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


@cache
def imports(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return frozenset(names)


def own_imports(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of this package that it imports: of `from a import b` the submodule where there is one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pagewarden"):
            parent = str(node.module).removeprefix("pagewarden").removeprefix(".")
            for alias in node.names:
                child = f"{parent}.{alias.name}".removeprefix(".")
                yield child if child in known else parent


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
        assert not (own in REALITY and parts[1] in ("law", "designs")), "reality must not be told what to say"


def test_no_module_imports_what_imports_it() -> None:
    known = {named(path) for path in modules()}
    graph = {named(path): set(own_imports(path, known)) - {named(path)} for path in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle of imports: {' -> '.join(circle.args[1])}")


def owned(path: Path) -> Iterator[str]:
    """The public classes and types that a module defines: a constant or a function is known by its room."""
    for node in ast.parse(path.read_text()).body:
        names = [node.name] if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (name for name in names if re.fullmatch("[A-Z][a-z][A-Za-z0-9]*", name))


def test_a_name_has_one_owner() -> None:
    owners: dict[str, list[str]] = {}
    for path in modules():
        for name in owned(path):
            owners.setdefault(name, []).append(named(path))
    assert {name: homes for name, homes in owners.items() if len(homes) > 1} == {}


def test_no_folder_is_too_large() -> None:
    lines = {path: path.read_text().count("\n") for path in modules()}
    total = sum(lines.values())
    for folder in {path.parent for path in lines} - {SOURCE}:
        held = sum(count for path, count in lines.items() if folder == path.parent)
        assert held <= LARGEST_SHARE * total, f"{folder.relative_to(SOURCE)}: {held} of {total} lines"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("__init__.py")), ids=lambda p: str(p.parent.relative_to(SOURCE)))
def test_every_package_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path.parent.name} has no word about itself"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_one_door_to_the_kernel(path: Path) -> None:
    if package_of(path) == "kernel":
        return
    found = sorted(imports(path) & KERNEL_DOOR) or OPENS.findall(path.read_text())
    assert not found, f"only kernel/ opens {found}"


def test_what_is_for_one_machine_alone_is_said_in_one_place() -> None:
    known = {named(path) for path in modules()}
    assert {name for name in known if name.endswith("_x86")} <= set(X86_64_ONLY) <= known
    asks = [named(path) for path in modules() if re.search(r"platform\.machine|getpagesize", path.read_text())]
    assert asks == ["kernel.machine"]
