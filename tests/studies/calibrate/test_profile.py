"""From samples to a profile on disk: a verified fake stands for the host, so that no test depends on a time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from live import require
from pagewarden.cost import load_profile, parse, price, shipped_profiles, to_toml
from pagewarden.cost.names import REQUIRED
from pagewarden.designs import DESIGNS
from pagewarden.studies.calibrate import sampling
from pagewarden.studies.calibrate.calibration import (
    PARAMETERS,
    Timings,
    calibrate,
    profile_of,
)
from pagewarden.studies.calibrate.cpu import hops
from pagewarden.studies.calibrate.prediction_runs import own_price
from pagewarden.studies.calibrate.primitives import PrimitiveScript
from pagewarden.studies.calibrate.sampling import Array, StraightLine, sample
from pagewarden.studies.calibrate.scripts import SIZES, found
from pagewarden.studies.calibrate.timed_host import TimedHost
from pagewarden.studies.calibrate.turns import turn_prices
from pagewarden.vocab import PAGE_SIZE, UserMistake

Rows = dict[str, tuple[float, ...]]
CLOCK = 25.0
# ns, fixed and a page, of each row of a script that comes in several sizes
ROWS = {
    "convert": ((1000, 260), (1500, 110), (900, 0)),
    "mapping": ((2500, 3), (4500, 600), (900, 290), (3200, 130)),
    "file": ((500, 230), (600, 290)),
    "copy": ((10, 100),),
    "splice": ((0, 0), (900, 95), (0, 0), (1200, 310)),
    "allocate": ((3000, 200), (700, 1000)),
}
SINGLE: Rows = {
    "clock": (0,),
    "syscall": (200,),
    "fault": (2400, 1700, 3000),
    "map": (2400, 2200),
    "tell": (300, 400),
    "zero": (45,),
    "cold": (0.2 * PAGE_SIZE,),
    "entry": (4,),
}


class FakeScript:
    """sampling.Timed with made-up times, and a noise that medians do not see."""

    def __init__(self, rows: tuple[float, ...]) -> None:
        self._rows, self._turn = rows, 0

    def time(self, rounds: int) -> list[float]:
        self._turn += 1
        late = 1e6 if self._turn % 5 == 0 else 0
        return [CLOCK + ns + late for ns in self._rows]


EXIT = 20_000.0
CPU: Rows = {"cpu/exit": (EXIT - CLOCK, 60 - CLOCK)}
# ns, fixed and a page: what a request takes longer with each part, and what of that is priced by something else
BARE = (100_000, 1000)
OWN: Mapping[str, tuple[float, float]] = {
    "bare": (0, 0),
    "guest-copy": (200, 2.0 * PAGE_SIZE),
    "host-copy": (900, 250),
    "pread": (900 + 2200, 250),
    "splice": (1800, 120),
    "remap": (3420, 300),
    "convert": (2 * 3000, 150),
    "entries": (8000, 1000),
}
CONVERSION = (1000 + 900 + 600, 260)  # set and clear of a range, a flush; a page set
APART: Mapping[str, tuple[float, float]] = {
    "pread": (0, 120),
    "remap": (3600 + 2200 + 400 + 600, 130),
    "convert": (2 * EXIT + CONVERSION[0], CONVERSION[1]),
    "entries": (EXIT + 3000 + CONVERSION[0], CONVERSION[1] + 150),
}


def fakes() -> dict[str, FakeScript]:
    made = {name: FakeScript(rows) for name, rows in (SINGLE | CPU).items()}
    for name, rows in ROWS.items():
        for pages in SIZES:
            made[f"{name}/{pages}"] = FakeScript(tuple(fixed + rise * pages for fixed, rise in rows))
    return made


class FakeRun(FakeScript):
    """A run of requests with made-up times, and the same noise."""

    def __call__(self) -> float:
        return self.time(1)[0] - CLOCK


def fake_runs(library: bool = True) -> dict[str, FakeRun]:
    times = {part: np.add(BARE, own) + APART.get(part, (0, 0)) for part, own in OWN.items()}
    parts = times if library else ("bare", "guest-copy")
    return {f"turn/{part}/{n}": FakeRun((float(times[part] @ (1, n)),)) for part in parts for n in SIZES}


def ticking() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 0.01


@pytest.fixture(scope="module")
def taken() -> Mapping[str, Array]:
    clock = ticking()
    return sample(fakes(), 1.0, runs=fake_runs(), clock=lambda: next(clock))


@pytest.fixture(scope="module")
def host() -> Iterator[TimedHost]:
    with TimedHost(4 << 20) as made:
        yield made


def test_the_fake_has_the_scripts_and_rows_of_the_host() -> None:
    with Timings("library", "unicorn") as timings:
        real = {name: len(script.time(1)) for name, script in timings.timed.items()}
        assert timings.runs.keys() == fake_runs().keys()
    assert {name: len(script.time(1)) for name, script in fakes().items()} == real


def test_prices_are_what_the_times_were_made_from(taken: Mapping[str, Array]) -> None:
    medians = {name: price.spread.median for name, price in found(taken).items()}
    want = {
        "access_syscalls": 200,
        "faults": 1700,
        "scrubs": 45,
        "notifications": 700,
        "allocations": 1000,
        "io_pte_set": 8,
        "io_pte_clear": 4,
        "hyp_pte_set": 260,
        "hyp_pte_set_range": 1000,
        "hyp_pte_clear": 110,
        "hyp_pte_clear_range": 900,
        "tlbi": 600,
        "host_pte_set": 310,
        "host_pte_set_range": 3600,
        "host_pte_clear": 130,
        "host_pte_clear_range": 400,
        "syscall_mmap": 2500,
        "syscall_munmap": 2200,
        "syscall_pread": 500,
        "syscall_pwrite": 600,
        "syscall_splice": 900,
        "pins": 95,
        "guest_copies": 10,
        "host_copies": 10,
        "hyp_copies": 10,
        "copy_warm": 100 / PAGE_SIZE,
        "copy_cold": 0.2,
    }
    assert medians == pytest.approx(want, rel=1e-6)
    assert all(price.bend < 1e-6 for price in found(taken).values())


def test_deciles_are_those_of_the_samples_of_which_each_fifth_is_late(taken: Mapping[str, Array]) -> None:
    prices = found(taken)
    for name, ns, times in (("access_syscalls", 200, 1), ("io_pte_set", 4, 2)):
        deciles = prices[name].spread.deciles
        assert len(deciles) == 11 and deciles[:8] == pytest.approx([ns * times] * 8)
        assert deciles[9:] == pytest.approx([(ns + 1e6) * times] * 2)


def test_what_takes_no_time_has_a_price_all_the_same(taken: Mapping[str, Array]) -> None:
    nothing = {name: np.zeros_like(times) for name, times in taken.items()}
    prices = turn_prices(found(nothing) | hops(nothing, "a fake CPU"), nothing, "a fake CPU")
    assert [name for name, price in prices.items() if price.spread.median <= 0] == []


def test_a_cpu_has_hops_and_a_rate_of_its_own(taken: Mapping[str, Array]) -> None:
    """Compiled calls: of the parts of a request only the guest's own are timed."""
    compiled = {name: rows for name, rows in taken.items() if not name.startswith("turn/")}
    compiled |= {name: taken[name] for name in fake_runs(library=False)}
    before = found(taken) | hops(taken, "a fake CPU")
    prices = turn_prices(before, compiled, "a fake CPU")
    assert {name for name in prices if prices[name] is not before.get(name)} == {"guest_copies", "guest_copy_warm"}
    made = profile_of("mine", prices, "a fake CPU", "compiled", "quiet")
    assert made.prices["hop_guest_hyp"].value.low == pytest.approx(EXIT / 2)
    assert made.prices["hop_hyp_host"].value.low == pytest.approx(30)
    assert made.prices["guest_copy_warm"].value.low == pytest.approx(2.0)
    assert made.prices["guest_copies"].value.low == pytest.approx(200)
    assert price({"guest_copy_bytes": 1000, "host_copy_bytes": 0}, made).low == pytest.approx(2000)
    assert price({"guest_copy_bytes": 0, "host_copy_bytes": PAGE_SIZE}, made).low == pytest.approx(100, rel=1e-3)


def test_a_point_that_is_lost_in_its_scatter_bends_no_line() -> None:
    """The median of a copy of a page beside an exit of 60 us may come out at 0, or below."""
    sizes, noise = (1, 4, 16, 64), np.array([-900.0, -400, 0, 400, 900])
    times = np.stack([100.0 * n + noise for n in sizes])
    times[0] -= 99
    line = StraightLine.through(sizes, times)
    assert line.unit.median == pytest.approx(100, rel=0.03)
    assert line.fixed.median == pytest.approx(0, abs=60)


def test_a_sample_in_which_another_had_the_cpu_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_away = iter([0, 1, 1, 2, 2, 2])
    monkeypatch.setattr(sampling, "getrusage", lambda who: SimpleNamespace(ru_nivcsw=next(taken_away)))
    times = iter([[900.0], [800.0], [7.0]])
    assert sampling._undisturbed(SimpleNamespace(time=lambda rounds: next(times)), 1) == [7.0]


def test_a_part_costs_what_a_request_takes_longer_with_it(taken: Mapping[str, Array]) -> None:
    before = found(taken) | hops(taken, "a fake CPU")
    prices = turn_prices(before, taken, "a fake CPU")
    medians = {name: prices[name].spread.median for name in prices if prices[name] is not before.get(name)}
    want = {
        "guest_copies": 200,
        "guest_copy_warm": 2.0,
        "host_copies": 900,
        "copy_warm": 250 / PAGE_SIZE,
        "syscall_pread": 2200,
        "syscall_splice": 1800,
        "pins": 120,
        "syscall_mmap": 3420,
        "host_pte_set": 300,
        "hypercalls": 3000,
        "hyp_pte_clear": 150,
        "io_pte_set_range": 8000,
        "io_pte_set": 1000,
    }
    assert medians == pytest.approx(want, rel=1e-6)
    assert all("a request on a fake CPU takes longer" in prices[name].what for name in want)


@pytest.mark.parametrize("design", DESIGNS)
def test_the_prices_of_its_parts_add_up_to_a_request(design: str, taken: Mapping[str, Array]) -> None:
    """Whatever a part holds that the model counts is priced once: nothing is left over, nothing is paid twice."""
    prices = turn_prices(found(taken) | hops(taken, "a fake CPU"), taken, "a fake CPU")
    profile = profile_of("mine", prices, "a fake CPU", "library", "quiet")
    parts = {
        "dma-buffer": ("guest-copy", "host-copy"), "bounce": ("guest-copy", "host-copy"),
        "remap": ("convert", "remap"), "pread": ("convert", "pread"), "splice": ("convert", "splice"),
        "window": ("convert", "host-copy"), "iommu": ("entries", "host-copy"),
    }[design]  # fmt: skip
    for pages in SIZES:
        want = sum(np.add(OWN[part], APART.get(part, (0, 0))) @ (1, pages) for part in parts)
        assert own_price(profile, design, pages).low == pytest.approx(want, rel=2e-3, abs=200), (
            "hops to the host: 60 ns"
        )


def test_the_profile_is_complete_strict_and_reads_back(taken: Mapping[str, Array]) -> None:
    prices = found(taken) | hops(taken, "a fake CPU")
    made = profile_of("mine", prices, "a fake CPU", "compiled", "quiet")
    again = parse(to_toml(made), "again")
    assert again.prices == dict(made.prices) and again.about == " ".join(made.about.split())
    assert set(REQUIRED) <= set(again.prices) and set(again.parameters) == set(PARAMETERS)
    assert again.prices["hop_guest_hyp"].value == (10_000, 10_000)
    for name, price_ in again.prices.items():
        assert price_.parameter or name == "hypercalls" or price_.source.startswith("measured ")


def test_without_a_cpu_the_hops_are_parameters(taken: Mapping[str, Array]) -> None:
    made = profile_of("mine", found(taken), "", "compiled", "quiet")
    assert {name for name in made.parameters if name.startswith("hop_")} == {
        "hop_guest_hyp",
        "hop_hyp_host",
        "hop_host_hyp",
        "hop_hyp_guest",
    }


def test_calls_of_the_library_need_a_guest() -> None:
    with pytest.raises(UserMistake, match="needs a CPU"):
        Timings("library", "none")


def test_a_range_costs_once_whatever_its_pages(taken: Mapping[str, Array]) -> None:
    made = profile_of("mine", found(taken), "", "compiled", "quiet")
    for pages in (1, 100):
        counts = {"hyp_pte_set": pages, "ranges": {"hyp_pte_set": 1}}
        assert price(counts, made).low == pytest.approx(1000 + 260 * pages)
        for shipped in shipped_profiles():
            once = price(counts, shipped).low - price({"hyp_pte_set": pages}, shipped).low
            has = shipped.prices.get("hyp_pte_set_range")
            assert once == pytest.approx(has.value.low if has else 0)


def test_a_failing_call_names_itself(host: TimedHost) -> None:
    with pytest.raises(OSError, match="ioctl") as caught:
        PrimitiveScript([host.share(1), host.share(1)]).time(1)
    assert caught.value.errno == 17
    PrimitiveScript([host.unshare(1)]).time(1)


def test_this_host(host: TimedHost) -> None:
    """The real thing for a moment: every price is there and positive; what it is depends on the day."""
    made = calibrate(seconds=0.3)
    prices = parse(to_toml(made.profile), "this host").prices
    assert set(REQUIRED) <= set(prices)
    odd = {name: entry.value for name, entry in prices.items() if not 0 < entry.value.low <= entry.value.high < 1e9}
    assert odd == {}
    assert made.cpu and all(entry.spread.samples >= 5 for entry in made.found.values())


def test_beside_a_busy_thread_and_without_a_cpu() -> None:
    require(len(os.sched_getaffinity(0)) > 1, "a second CPU")
    before = os.sched_getaffinity(0)
    made = calibrate("busy", 0.1, busy=True, cpu="none")
    assert os.sched_getaffinity(0) == before, "the thread may run where it could before"
    assert made.busy and not made.cpu and "of another CPU" in made.profile.about


def test_the_verb(tmp_path: Path) -> None:
    """As a user meets it: a file, said to be new or replaced; one JSON document; a mistake is one line and code 2."""
    call = [sys.executable, "-m", "pagewarden", "calibrate", "--seconds", "0.1", "--no-busy", "--cpu", "none"]
    file = str(tmp_path / "mine.toml")
    first, second, mistake = (
        subprocess.run([*call, *more], capture_output=True, text=True)
        for more in (("--out", file, "--json"), ("--out", file), ("--name", "../mine"))
    )
    if first.returncode:
        require(False, first.stderr)
    document = json.loads(first.stdout)
    assert document["verb"] == "calibrate" and [p["file"] for p in document["profiles"]] == [file]
    assert not document["profiles"][0]["replaced"] and f"replaced {file}" in second.stdout
    assert {price["name"] for price in document["profiles"][0]["prices"]} == set(load_profile(Path(file)).prices)
    assert mistake.returncode == 2 and len(mistake.stderr.splitlines()) == 1 and "--name" in mistake.stderr
