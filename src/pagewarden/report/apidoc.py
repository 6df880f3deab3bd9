"""docs/api.md: the names that a program imports, with their signatures and docstrings as the source has them."""

import ast
import inspect
from functools import cache
from importlib import import_module
from types import ModuleType

ROOMS = (
    "pagewarden.memory",
    "pagewarden.keep",
    "pagewarden.port",
    "pagewarden.virtio.device",
    "pagewarden.workload",
    "pagewarden.cost",
    "pagewarden.designs",
    "pagewarden.law",
    "pagewarden.studies.compare.comparison",
    "pagewarden.check.page.system",
    "pagewarden.check.verdict",
)
_HEAD = (
    "# Reference of the library\n\nGenerated from docstrings by `python -m pagewarden.report.docs`; a test compares."
)
_AFTER_FORK = ("forked", "foreign")
"""What is called by nobody but the hook of fork (memory/own_process.py)."""
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def document() -> str:
    """The whole file."""
    return "\n\n".join([_HEAD, *(part for room in ROOMS for part in _room(import_module(room)))]) + "\n"


def _room(module: ModuleType) -> list[str]:
    nodes = _nodes(module.__name__)
    names: list[str] = getattr(module, "__all__", None) or [name for name in nodes if not name.startswith("_")]
    parts, plain = [f"## `{module.__name__}`", inspect.cleandoc(module.__doc__ or "")], []
    for name in sorted(names, key=str.lower):
        home = getattr(getattr(module, name), "__module__", "")
        node = _nodes(home).get(name) if home.startswith("pagewarden") else None
        if node is None:
            plain.append(f"`{name}`")
        else:
            parts += (
                _class(getattr(module, name))
                if isinstance(node, ast.ClassDef)
                else [f"### `{_signature(node)}`", _doc(node)]
            )
    return [part for part in [*parts, f"Constants and types: {', '.join(plain)}." if plain else ""] if part]


@cache
def _nodes(module: str) -> dict[str, ast.ClassDef | FunctionNode]:
    """The classes and functions of a module's source, by name."""
    tree = ast.parse(inspect.getsource(import_module(module)))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | FunctionNode)}


def _class(kind: type[object]) -> list[str]:
    """A class with what it inherits from others of the package."""
    nodes = [
        _nodes(base.__module__)[base.__name__] for base in kind.__mro__ if base.__module__.startswith("pagewarden")
    ]
    node, body = nodes[0], [item for each in nodes for item in each.body]
    methods = {item.name: item for item in reversed(body) if isinstance(item, FunctionNode)}
    made = _signature(methods["__init__"], node.name) if "__init__" in methods else node.name
    fields = [ast.unparse(item) for item in body if isinstance(item, ast.AnnAssign)]
    lines = [f"- `{field}`" for field in fields if not field.startswith("_")]
    lines += [
        _method(item)
        for name, item in reversed(methods.items())
        if not name.startswith("_") and name not in _AFTER_FORK
    ]
    bases = " ".join(f"(`{base.__name__}`)" for base in kind.__bases__ if base is not object)
    return [f"### class `{made.removesuffix(' -> None')}` {bases}".rstrip(), _doc(node), "\n".join(lines)]


def _method(node: FunctionNode) -> str:
    is_property = any(ast.unparse(mark).endswith("property") for mark in node.decorator_list)
    doc = " ".join(_doc(node).split())
    return f"- `{node.name if is_property else _signature(node)}`" + (f": {doc}" if doc else "")


def _signature(node: FunctionNode, name: str = "") -> str:
    for item in ast.walk(node.args):
        if isinstance(item, ast.arg) and isinstance(item.annotation, ast.Constant):
            item.annotation = ast.Name(str(item.annotation.value))  # a type in quotes
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix("cls").removeprefix(", ")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{name or node.name}({arguments}){returns}"


def _doc(node: ast.ClassDef | FunctionNode) -> str:
    return ast.get_docstring(node) or ""
