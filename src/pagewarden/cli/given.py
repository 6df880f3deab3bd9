"""What several verbs are given alike."""

from typing import Annotated, TypeAlias

import typer

Repeated: TypeAlias = list[str] | None
"""An option that may be repeated."""
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
