"""A listing in the mail's style, with numbers."""

from rich.console import Console

from pagewarden.report.compare import priced_by
from pagewarden.report.console import table
from pagewarden.report.documents.compare import Explained, ListedStep
from pagewarden.studies.compare.comparison import Setup
from pagewarden.studies.compare.explain import Listing, summary


def print_listing(found: Listing, title: str, out: Console) -> None:
    """Step by step: who runs, every `***` transition, the running cost."""
    out.print(title)
    made = table("who", "step", "counts", "ns", "so far", left=3)
    for line in found.lines:
        times = f" x{line.times}" if line.times > 1 else ""
        cost = str(line.cost) if line.cost.high else ""
        made.add_row(line.who, line.text + times, summary(line.counts), cost, str(line.total))
    if found.lines:
        out.print(made)
    if found.refusal is not None:
        out.print(f"REFUSED: {found.refusal}\nThis design does not work here.", soft_wrap=True)


def explained(found: Listing, procedure: str, setup: Setup) -> Explained:
    """The same for programs."""
    steps = [
        ListedStep(
            line.who, line.text, line.times, (line.cost.low, line.cost.high), (line.total.low, line.total.high),
            {key: value for key, value in line.counts.as_dict().items() if isinstance(value, int) and value},
        )
        for line in found.lines
    ]  # fmt: skip
    refused = None if found.refusal is None else str(found.refusal)
    return Explained(procedure=procedure, lines=steps, refused=refused, works=refused is None, **priced_by(setup))
