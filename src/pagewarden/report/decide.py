"""What to measure, for people and for programs."""

from rich.console import Console

from pagewarden.report.console import table
from pagewarden.report.documents.compare import Decided, Measure
from pagewarden.studies.compare.comparison import Comparison
from pagewarden.studies.compare.decide import decide


def decided(found: Comparison) -> Decided:
    """For programs."""
    said = decide(found)
    measure = None if said.measure is None else [Measure(m.setting, *m.known, m.within) for m in said.measure]
    return Decided(
        workload=found.workload.name, policy=found.setup.policy.name, profile=found.setup.profile.name,
        cheapest=said.cheapest, rivals=list(said.rivals), measure=measure,
    )  # fmt: skip


def print_decided(found: Decided, out: Console) -> None:
    """For people: the answer, then a line a price."""
    if found.cheapest is None:
        out.print("No design completes this workload: there is nothing to decide.")
    elif not found.rivals:
        out.print(f"Settled: {found.cheapest}, at every price of the profile {found.profile}.")
    elif found.measure is None:
        out.print(f"No measurement settles {found.cheapest} against {', '.join(found.rivals)}: they are too near.")
    else:
        out.print(f"Open: {found.cheapest} or {', '.join(found.rivals)}. These prices settle it, if each turns out")
        out.print("near the middle of its range; far from it another design wins, or more must be known:\n")
        made = table("price", "known", "measure to within", left=1)
        for each in found.measure:
            made.add_row(each.setting, f"{each.low:,.4g}..{each.high:,.4g}", f"+-{each.within:,.3g}")
        out.print(made)
