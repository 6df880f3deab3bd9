"""What both sides of a migration are told alike, and what each found."""

from dataclasses import dataclass
from typing import Literal

from pagewarden.studies.run.one import Run
from pagewarden.studies.run.plan import RunPlan
from pagewarden.vocab import UserMistake


@dataclass(frozen=True)
class Migration:
    """One side's account. moved: the guest is at the destination. why: why it is not. pages: that went, some more than
    once, in `rounds` copies. downtime: seconds that it stood still. What only the source knows is None at the
    destination. not_followed: why it was stopped for the whole copy, if it was. run: what of its I/O was done here."""

    side: Literal["source", "destination"]
    moved: bool
    why: str
    pages: int
    rounds: int | None
    downtime: float | None
    not_followed: str
    run: Run

    @property
    def status(self) -> int:
        """As of the run; 2 where all was right, but the guest did not move."""
        return self.run.status or (0 if self.moved else 2)

    @property
    def good(self) -> bool:
        return self.status == 0


def checked(plan: RunPlan) -> RunPlan:
    """The plan, where its guest can move; UserMistake."""
    if plan.kept or plan.isolated:
        raise UserMistake("only a guest on a cooperating host moves, with all its pages: leave the rest out")
    if plan.cpu == "interpreted":
        raise UserMistake("a guest on the interpreted CPU has no memory that could move: use unicorn or kvm")
    return plan
