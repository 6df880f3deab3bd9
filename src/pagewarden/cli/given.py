"""What several verbs are given alike, and what of it has an effect."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from pagewarden.vocab import Unavailable, UserMistake

if TYPE_CHECKING:
    from pagewarden.law import Policy

Repeated: TypeAlias = list[str] | None
"""An option that may be repeated."""
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def place(file: Path | None) -> Path | None:
    """A file that a verb will write: that it can be is known before the work, not after."""
    if file is None:
        return None
    new = not file.exists()
    with file.open("a"):
        if new:
            file.unlink()
    return file


def _page(file: Path | None) -> Path | None:
    if file is not None and find_spec("vl_convert") is None:
        raise Unavailable("a page of pictures needs the package vl-convert-python", "pip install 'pagewarden[html]'")
    return place(file)


Html: TypeAlias = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", callback=_page, help="Write a page of pictures, too: one file, offline."),
]
Trace: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        callback=place,
        help="Write what happens when, for ui.perfetto.dev; FILE.json: for Chrome.",
    ),
]
PluginFile: TypeAlias = Annotated[
    str | None, typer.Option(metavar="FILE.py", help="Designs and policies of your own, beside the known ones.")
]
With: TypeAlias = Annotated[
    Repeated, typer.Option("--with", metavar="MECHANISM", help="Add a mechanism; may be repeated.")
]
Without: TypeAlias = Annotated[Repeated, typer.Option(metavar="MECHANISM", help="Take one away; may be repeated.")]


def given(context: typer.Context, name: str) -> bool:
    """Whether the parameter of this verb stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def only(context: typer.Context, mode: str, effective: Iterable[str]) -> None:
    """UserMistake names an option that was given and has no effect in this mode; effective: names of parameters."""
    for parameter in context.command.params:
        if parameter.name and parameter.name not in effective and given(context, parameter.name):
            shown = parameter.opts[0] if parameter.param_type_name == "option" else "a file"
            raise UserMistake(f"{shown} has no effect {mode}; leave it out")


def changed(policy: "Policy", more: Repeated, less: Repeated) -> "Policy":
    """The policy with some mechanisms and without others; UserMistake for one that it has, or lacks, already."""
    made = policy
    for name in set(more or ()).intersection(less or ()):
        raise UserMistake(f"{name} is given both by --with and by --without; leave one out")
    for name in more or ():
        before, made = made, made.with_(name)
        if made.mechanisms == before.mechanisms:
            raise UserMistake(f"--with {name}: {before.name} has it; leave it out")
    for name in less or ():
        before, made = made, made.without(name)
        if policy.without(name).mechanisms == policy.mechanisms or made.mechanisms == before.mechanisms:
            raise UserMistake(f"--without {name}: {policy.name} lacks it; leave it out")
    return made
