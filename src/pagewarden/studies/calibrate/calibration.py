"""Measures the prices of this host and makes a profile of them: what `compare` then predicts with."""

import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np

from pagewarden.cost import Interval, Price, Profile, load_profile, parse, profile_directory, shipped_profiles, to_toml
from pagewarden.cost.names import HOPS, PRICES
from pagewarden.kernel import machine
from pagewarden.kernel.threads import beside
from pagewarden.studies.calibrate.cpu import Exits, cpu_named, hops
from pagewarden.studies.calibrate.primitives import spin
from pagewarden.studies.calibrate.sampling import Array, Timed, sample
from pagewarden.studies.calibrate.scripts import LEAST_NS, PriceFound, found, scripts
from pagewarden.studies.calibrate.timed_host import TimedHost
from pagewarden.studies.calibrate.turns import turn_prices, turns
from pagewarden.studies.run.warm import warm
from pagewarden.vocab import Advance, Progress, Unavailable, UserMistake, one_of
from pagewarden.vocab.closing import Closing
from pagewarden.vocab.places import put

NAME = "this-host"
PARAMETERS = {
    "injections": (100, 50_000, "nothing injects an abort here: from a fast exception to a slow signal; not measured"),
    "guest_pte_set": (
        50,
        50_000,
        "an entry of the guest's second stage: the emulated or software CPU hides it in the "
        "fault that it takes on first touch; not measured apart",
    ),
    "guest_pte_clear": (50, 50_000, "as guest_pte_set"),
}
"""Prices that this host does not show: low, high (ns), why."""
NO_CPU = (100, 50_000, "no CPU was asked for: from a VMX exit to one of a software KVM; not measured")


CALLS = ("compiled", "library")


@dataclass(frozen=True, slots=True)
class Calibration:
    """A profile, the spreads its prices come from, and on which CPU the hops were timed ("" for none)."""

    profile: Profile
    found: Mapping[str, PriceFound]
    cpu: str
    busy: bool


class Timings(Closing):
    """Everything that calibration times, and the prices it makes of that. calls: `compiled`, as a VMM in C would make
    them, or `library`, as this library does. UserMistake, and Unavailable for what this host lacks."""

    def __init__(self, calls: str, cpu: str) -> None:
        one_of("way to make the calls", calls, CALLS)
        if (calls, cpu) == ("library", "none"):
            raise UserMistake("--calls library is timed in requests of a guest: it needs a CPU; leave --cpu none out")
        self.label = ""
        self.runs: dict[str, Callable[[], float]] = {}
        with ExitStack() as undo:
            self.host = undo.enter_context(TimedHost())
            self.timed: dict[str, Timed] = dict(scripts(self.host))
            if cpu != "none":
                on = undo.enter_context(cpu_named(cpu))
                self.label = on.label
                self.timed["cpu/exit"] = Exits(on.cpu)
                self.runs = turns(on.kind, calls == "library")
                warm()
            self._release = undo.pop_all()

    def sample(self, seconds: float, progress: Advance = lambda done, total: None) -> dict[str, Array]:
        """Samples of everything, for about so many seconds."""
        return sample(self.timed, seconds, runs=self.runs, progress=progress)

    def prices(self, taken: Mapping[str, Array]) -> dict[str, PriceFound]:
        """Of what `sample` gave."""
        made = found(taken)
        return turn_prices(made | hops(taken, self.label), taken, self.label) if self.label else made

    def close(self) -> None:
        self._release.close()


def calibrate(
    name: str = NAME,
    seconds: float = 5.0,
    *,
    busy: bool = False,
    cpu: str = "auto",
    calls: str = "compiled",
    progress: Progress = lambda what, done, total: None,
) -> Calibration:
    """Time everything for about so many seconds. busy: beside a thread of this process that keeps another CPU busy, so
    that flushes must reach it. Raises as Timings does."""
    check_name(name)
    with Timings(calls, cpu) as timings, ExitStack() as opened:
        sibling = opened.enter_context(BusySibling(seconds)) if busy else None
        what = f"calibrating {name}"
        taken = timings.sample(seconds, lambda done, total: progress(what, done, total))
    beside = "nothing else running in the process"
    if sibling is not None:
        beside = f"beside a thread of the same process that had {sibling.share:.0%} of another CPU"
    prices = timings.prices(taken)
    return Calibration(profile_of(name, prices, timings.label, calls, beside), prices, timings.label, busy)


class BusySibling:
    """A thread of this process that spins on another CPU for the time of the block, and its share of that CPU's time.
    Unavailable where there is no other CPU."""

    def __init__(self, seconds: float) -> None:
        self._cpus = sorted(os.sched_getaffinity(0))
        if len(self._cpus) < 2:
            raise Unavailable("a busy sibling needs a second CPU", "give this process one, or calibrate with --no-busy")
        self._stop, self._limit = np.zeros(1, np.int64), int(1e9 * (10 * seconds + 60))
        self.share = 0.0

    def _run(self) -> None:
        os.sched_setaffinity(0, self._cpus[1:])
        used, start = time.thread_time(), time.monotonic()
        spin(self._stop, self._limit, np.zeros(2, np.int64))
        self.share = (time.thread_time() - used) / (time.monotonic() - start)

    def __enter__(self) -> Self:
        os.sched_setaffinity(0, self._cpus[:1])
        self._wait = beside(self._run)
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop[0] = 1
        self._wait()
        os.sched_setaffinity(0, self._cpus)


def profile_of(name: str, prices: Mapping[str, PriceFound], cpu: str, calls: str, beside: str) -> Profile:
    """The profile, every price with its source; those that could not be measured are parameters."""
    where = f"{platform.system()} {platform.release()}, {_processor()}"
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    how = "those of compiled code" if calls == "compiled" else "made through this library"
    about = (
        f"Measured by pagewarden calibrate on {when}: {where}; {beside}; hops on {cpu or 'no CPU'}. Calls are "
        f"{how}. The warden's memory is a userfaultfd window: hyp PTEs are its entries, host "
        "PTEs those of mmap."
    )
    made: dict[str, Price] = {
        "hypercalls": _exact(
            "hypercalls",
            LEAST_NS,
            "part of the exit that the hops are taken from; what the call does to entries is priced apart",
        )
    }
    for key, price in prices.items():
        spread = price.spread
        bend = f"; off a straight line by up to {price.bend:.0%}" if price.bend >= 0.1 else ""
        source = (
            f"measured {when}: {price.what}; median of {spread.samples:,} samples, quartiles {spread.low:.4g} to "
            f"{spread.high:.4g}{bend}; {where}; {beside}"
        )
        made[key] = _exact(key, spread.median, source)
    unknown = dict(PARAMETERS) | ({} if cpu else dict.fromkeys(HOPS.values(), NO_CPU))
    for key, (low, high, why) in unknown.items():
        made[key] = Price(key, Interval(low, high), True, "", why)
    return Profile(name, about, {key: made[key] for key in PRICES if key in made}, "measured")


def _exact(name: str, value: float, source: str) -> Price:
    value = float(f"{value:.4g}")
    return Price(name, Interval(value, value), False, source, "")


def _processor() -> str:
    with suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if match:
            return f"{match[1]} x {os.cpu_count()}"
    return f"{machine.NAME} x {os.cpu_count()}"


# -- where it is kept --------------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """UserMistake unless it can be a profile's name and a file's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name.endswith(".toml"):
        raise UserMistake(f"--name {name!r}: expected letters, digits, '.', '_' and '-', at most 64, without .toml")


def place_of(name: str, out: Path | None) -> Path:
    """The file that a profile goes to: the one asked for, or the user's own of that name."""
    return profile_directory() / f"{name}.toml" if out is None else out


def places_of(name: str, out: Path | None, busy: bool) -> list[Path]:
    """Where the profile goes, and one beside it of a busy host; what can be known to fail is known before anything is
    measured. UserMistake for a name or a place that will not do, Unavailable without a second CPU."""
    check_name(name)
    if out is None and name in {shipped.name for shipped in shipped_profiles()}:
        raise UserMistake(f"--name {name}: prices that came with pagewarden are called so; take another, or give --out")
    file = place_of(name, out)
    if not file.name:
        raise UserMistake(f"--out {file}: it is a directory; name a file")
    files = [file]
    if busy:
        check_name(f"{name}-busy")
        files.append(file.with_name(f"{file.stem}-busy.toml"))
    for each in files:
        _free(each)
    if busy:
        BusySibling(0)
    return files


_ROOM = 64 << 10
"""Bytes, more than a profile has."""


def _free(path: Path) -> bool:
    """Whether the profile would take the place of another one. UserMistake where it cannot be written, and where what
    is there is no profile."""
    replaced = path.exists() or path.is_symlink()
    if replaced:
        try:
            load_profile(path)
        except UserMistake as mistake:
            raise UserMistake(
                f"{path} exists and is no price profile ({mistake}); it was left alone: remove it, or "
                "choose another --out"
            ) from mistake
    with _written(path), tempfile.TemporaryFile(dir=path.parent) as tried:
        tried.write(bytes(_ROOM))
        tried.flush()
    return replaced


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserMistake(f"{path}: {error.strerror}; choose another place with --out") from error


def save(profile: Profile, path: Path) -> bool:
    """Write the profile, whole or not at all; True when it took the place of another file. UserMistake where it cannot
    be written, and where what is there is no profile."""
    text = to_toml(profile)
    parse(text, str(path))  # what cannot be read back is never put there
    replaced = _free(path)
    with _written(path):
        put(path, text.encode(), 0o644, lasting=True)
    return replaced
