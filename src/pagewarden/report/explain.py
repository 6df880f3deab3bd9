"""A listing in the mail's style, with numbers."""

from typing import Any

from rich.console import Console

from pagewarden.report.console import table
from pagewarden.studies.compare.explain import Priced, summary


def print_listing(lines: list[Priced], out: Console) -> None:
    """Step by step: who runs, every `***` transition, the running cost."""
    made = table("who", "step", "counts", "ns", "so far", left=3)
    for line in lines:
        times = f" x{line.times}" if line.times > 1 else ""
        cost = str(line.cost) if line.cost.high else ""
        made.add_row(line.who, line.text + times, summary(line.counts), cost, str(line.total))
    out.print(made)


def listing_json(lines: list[Priced]) -> list[dict[str, Any]]:
    return [
        {"who": line.who, "step": line.text, "times": line.times, "ns_range": list(line.cost),
         "so_far_ns_range": list(line.total),
         "counts": {key: value for key, value in line.counts.as_dict().items() if isinstance(value, int) and value}}
        for line in lines
    ]  # fmt: skip
