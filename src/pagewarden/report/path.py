"""A path of the probe in words: what it is, and its system calls."""

from collections.abc import Sequence

from rich.console import Console

from pagewarden.probe.explain import TracedCall
from pagewarden.probe.registry import Path


def print_calls(path: Path, calls: Sequence[TracedCall | None], out: Console) -> None:
    """The calls in order, those of a process that was forked behind its number, and where the conversion comes."""
    out.print(f"{path.name}, {path.direction}: {path.about}", soft_wrap=True)
    out.print("PAGE is the page on trial, here of a plain memfd. What a load or a store does is no call.\n")
    for call in calls:
        if call is None:
            out.print("  -- here the page is converted --")
        else:
            process = f"[{call.process}] " if call.process else ""
            out.print(f"  {process}{call.call} = {call.result}", soft_wrap=True)
    out.print()
