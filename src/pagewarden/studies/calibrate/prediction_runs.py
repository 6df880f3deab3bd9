"""Prediction against whole requests: a guest on a CPU, the virtio device, the host half of the design.

All requests share what has nothing to do with the design: the guest fills its buffer and posts a descriptor, the device
reads rings, takes the pages of the request and does the I/O. That part is timed by itself, with a guest that neither
copies nor shares and a host that writes its own bytes to the disk, and is added to what the prices say.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pagewarden.cost import Interval, Profile, price
from pagewarden.designs import DESIGNS
from pagewarden.studies.calibrate.calibration import NAME, Timings, profile_of
from pagewarden.studies.calibrate.prediction import BY_TURNS, Forecast, Prediction, counted
from pagewarden.studies.calibrate.sampling import Array, Spread
from pagewarden.studies.calibrate.scripts import SIZES
from pagewarden.studies.calibrate.turns import periods
from pagewarden.studies.run.machine import chosen_cpu
from pagewarden.vocab import PAGE_SIZE, Advance, UserMistake

ROUNDS = 6
"""Times that primitives and runs take turns."""


def predict_runs(
    cpu: str = "auto",
    profile: Profile | None = None,
    seconds: float = 15.0,
    designs: Sequence[str] = tuple(DESIGNS),
    progress: Advance = lambda done, total: None,
) -> Prediction:
    """Whole requests of each design, 4 KiB to 1 MiB, on this CPU, and what the profile says of them; without one, the
    primitives are timed by turns with the runs. Takes some two times as long as `seconds`."""
    kind, _ = chosen_cpu(cpu)
    if kind == "interpreted":
        raise UserMistake("the interpreted CPU has no times to predict; choose unicorn or kvm")
    taken: list[dict[str, Array]] = []
    whole: dict[tuple[str, int], list[float]] = {}
    with Timings("library", kind) as timings:
        for turn in range(ROUNDS):
            taken.append(timings.sample(seconds / ROUNDS))
            for at, pages in enumerate(SIZES):
                progress(turn * len(SIZES) + at, ROUNDS * len(SIZES))
                for design in _order(designs, turn + at):
                    whole.setdefault((design, pages), []).extend(_run(design, kind, pages))
        together = {name: np.concatenate([part[name] for part in taken], axis=1) for name in taken[0]}
        chosen = profile or profile_of(NAME, timings.prices(together), timings.label, "library", BY_TURNS)
    return Prediction(
        chosen,
        f"whole requests on {timings.label}, uffd-window, one at a time",
        [_row(design, pages, whole, chosen) for pages in SIZES for design in designs],
    )


def _order(designs: Sequence[str], turn: int) -> list[str]:
    """The designs, and the bare guest ("") twice, in other places every turn: who comes first meets cold caches."""
    half = len(designs) // 2
    names = ["", *designs[:half], "", *designs[half:]]
    return names[turn % len(names) :] + names[: turn % len(names)]


def _run(design: str, kind: str, pages: int) -> list[float]:
    return periods(kind, design, design, pages, int(8 + 24 / pages**0.5))


def own_price(profile: Profile, design: str, pages: int) -> Interval:
    """ns of a guest's write of so many pages beside what all designs share, the doorbell's hops among it."""
    counts = counted(profile, design, pages)
    counts["hops_by_edge"] = {edge: n - 1 for edge, n in counts["hops_by_edge"].items()}
    return price({key: value for key, value in counts.items() if key != "hops"}, profile)


def _row(design: str, pages: int, whole: Mapping[tuple[str, int], list[float]], profile: Profile) -> Forecast:
    common = float(np.median(whole["", pages]))
    return Forecast(
        design,
        pages * PAGE_SIZE,
        own_price(profile, design, pages).plus(Interval(common, common)),
        Spread.of(np.array(whole[design, pages])),
        common,
    )
