"""Every design live, beside what the model says of it: the same requests, one a doorbell, as in the listings."""

from dataclasses import dataclass, replace

from pagewarden.cost import load_profile
from pagewarden.designs import DESIGNS, Options
from pagewarden.law import policy_named
from pagewarden.studies.compare.comparison import DesignResult, Setup, compare
from pagewarden.studies.run.disk import DiskFile
from pagewarden.studies.run.one import Run, run
from pagewarden.studies.run.plan import RunPlan
from pagewarden.vocab import GuestStopped, Progress, UserMistake
from pagewarden.workload import Workload

PROFILE = "vmx-skylake"
"""Prices of the model's column, unless others are asked for: those of `pagewarden compare`."""


@dataclass(frozen=True)
class DesignAnswer:
    """A design: its run, or why there is none, and the model's result under the policy of the run's backing."""

    design: str
    run: Run | None
    why: str
    model: DesignResult | None

    @property
    def refused(self) -> bool:
        """No request went through, as the model says, too: this backing does not have the design."""
        nothing = self.run is None or self.run.outcome.failures == self.run.requests
        return nothing and (self.model is None or self.model.failed > 0)

    @property
    def status(self) -> int:
        """As of one run."""
        return 0 if self.refused else 1 if self.run is None else self.run.status

    @property
    def good(self) -> bool:
        return self.status == 0


def run_all(plan: RunPlan, workload: Workload, disk: DiskFile, progress: Progress | None = None) -> list[DesignAnswer]:
    """One row a design. The host is searched after each, without a core dump. Raises Unavailable."""
    rows = []
    for number, design in enumerate(DESIGNS):
        if progress:
            progress("designs", number, len(DESIGNS))
        rows.append(_row(plan, design, workload, disk))
    return rows


def _row(plan: RunPlan, design: str, workload: Workload, disk: DiskFile) -> DesignAnswer:
    try:
        made = replace(plan, design=design, batch=1, every=True, core=False)
    except UserMistake as mistake:
        return DesignAnswer(design, None, str(mistake), None)
    try:
        found = run(made, workload, disk)
    except GuestStopped as stopped:
        return DesignAnswer(design, None, str(stopped), None)
    setup = Setup(policy_named(found.labels.policy), load_profile(PROFILE), Options(in_place=plan.isolated))
    return DesignAnswer(design, found, "", compare(setup, workload, [DESIGNS[design]]).results[0])
