"""An I/O design of one's own, compared and checked: the host polls the ring, so no request rings the doorbell.

python examples/own_design.py
pagewarden compare --plugin examples/own_design.py --design bounce --design polled
"""

from dataclasses import replace

from pagewarden.check.page.system import Setting
from pagewarden.check.verdict import check
from pagewarden.cost import load_profile
from pagewarden.designs import DESIGNS, Design, Hop, Options, Procedure
from pagewarden.law import POLICIES, Policy
from pagewarden.studies.compare.comparison import Setup, compare
from pagewarden.workload import single


def polled(options: Options, policy: Policy, write: bool) -> Procedure:
    """The window design without the exit of the doorbell and without the resume after it."""
    known = DESIGNS["window"](options, policy, write)
    first = next(n for n, step in enumerate(known.steps) if isinstance(step, Hop) and "doorbell" in step.text)
    last = next(n for n, step in enumerate(known.steps) if isinstance(step, Hop) and "resumes" in step.text)
    kept = (*known.steps[:first], *known.steps[first + 2 : last], *known.steps[last + 2 :])
    return replace(known, name="polled", steps=kept, title="share, a host that polls, unshare")


mine = Design("polled", polled)


def main() -> None:
    """What it costs beside two others, and whether it is safe."""
    found = compare(
        Setup(POLICIES["hybrid"], load_profile("vmx-skylake")),
        single(65536),
        [DESIGNS["bounce"], DESIGNS["window"], mine],
    )
    for result in found.results:
        print(f"{result.name:8} {result.total['hops']} hops, {result.ns} ns")
    report = check(Setting(POLICIES["hybrid"], mine, pages=1, vcpus=2))
    for verdict in report.verdicts:
        print(f"{verdict.name}: {verdict.verdict}")


if __name__ == "__main__":
    main()
