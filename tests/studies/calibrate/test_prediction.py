"""Predictions from made-up times: the sums, the order, the errors; and the real studies for a moment, without times."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pagewarden.cli import run_modes
from pagewarden.cli.progress import ProgressBars
from pagewarden.cost import Interval, Profile, load_profile, to_toml
from pagewarden.designs import DESIGNS
from pagewarden.guest.program import Act
from pagewarden.report.documents.prices import WrongOrder
from pagewarden.report.prediction import predicted
from pagewarden.studies.calibrate import prediction_runs, sampling
from pagewarden.studies.calibrate.prediction import Forecast, Prediction, counted, host_only, predict, requests, rows
from pagewarden.studies.calibrate.prediction_runs import predict_runs
from pagewarden.studies.calibrate.primitives import PrimitiveScript
from pagewarden.studies.calibrate.sampling import Array, Spread
from pagewarden.studies.calibrate.scripts import SIZES
from pagewarden.studies.calibrate.timed_host import TimedHost
from pagewarden.studies.calibrate.turns import Stamps, _undisturbed, disk_for, periods, writes
from pagewarden.studies.run.disk import open_disk
from pagewarden.studies.run.machine import machine_for
from pagewarden.studies.run.plan import RunPlan, default_mix
from pagewarden.vocab import PAGE_SIZE, UserMistake

EXACT = {
    "hop_guest_hyp": 10_000,
    "hop_hyp_guest": 10_000,
    "hop_hyp_host": 30,
    "hop_host_hyp": 30,
    "hypercalls": 0,
    "access_syscalls": 200,
    "guest_copies": 5,
    "host_copies": 5,
    "hyp_copies": 5,
    "copy_warm": 0.025,
    "copy_cold": 0.2,
    "hyp_pte_set": 260,
    "hyp_pte_set_range": 1000,
    "hyp_pte_clear": 110,
    "hyp_pte_clear_range": 900,
    "tlbi": 500,
    "host_pte_set": 300,
    "host_pte_set_range": 2000,
    "host_pte_clear": 120,
    "host_pte_clear_range": 300,
    "pins": 95,
    "syscall_mmap": 2500,
    "syscall_munmap": 2200,
    "syscall_pread": 400,
    "syscall_splice": 900,
    "io_pte_set": 8,
    "io_pte_set_range": 0,
    "io_pte_clear": 0,
    "io_pte_clear_range": 0,
}


@pytest.fixture(scope="module")
def profile() -> Profile:
    units = {name: f"{name}_ns{'_per_byte' * name.startswith('copy_')}" for name in EXACT}
    return load_profile("svm-epyc").with_settings({units[name]: value for name, value in EXACT.items()})


def times(profile: Profile, late: Mapping[str, float]) -> dict[str, Array]:
    """Requests that take what the prices say, with an I/O of 1 us a page, and `late` times more for some designs."""
    taken = {f"io/{n}": np.full((1, 3), 1000.0 * n) for n in SIZES}
    taken |= {f"splice/{n}": np.full((4, 3), 2000.0 * n) for n in SIZES}
    exact = {
        row.design + str(row.bytes): row
        for row in rows(
            taken | {f"request/{d}/{n}": np.ones((1, 3)) for d in DESIGNS for n in SIZES}, profile, tuple(DESIGNS)
        )
    }
    for design in DESIGNS:
        for pages in SIZES:
            ns = exact[design + str(pages * PAGE_SIZE)].predicted.low * late.get(design, 1.0)
            taken[f"request/{design}/{pages}"] = np.full((1, 3), ns)
    return taken


def test_a_window_request_is_the_sum_of_its_prices(profile: Profile) -> None:
    made = {(row.design, row.bytes): row for row in rows(times(profile, {}), profile, tuple(DESIGNS))}
    for pages in SIZES:
        copy, io = 5 + 0.025 * pages * PAGE_SIZE, 1000 * pages
        window = 1000 + 260 * pages + copy + 500 + 900 + 110 * pages
        assert made["window", pages * PAGE_SIZE].predicted.low == pytest.approx(window + io)
        assert made["bounce", pages * PAGE_SIZE].predicted.low == pytest.approx(2 * copy + io)
        remap = 2500 + 2000 + 300 * pages + 2200 + 300 + 120 * pages + 500
        assert made["remap", pages * PAGE_SIZE].predicted.low == pytest.approx(window - copy + remap + io)
        spliced = window - copy + 900 + 95 * pages + 2 * io
        assert made["splice", pages * PAGE_SIZE].predicted.low == pytest.approx(spliced)


def test_errors_and_order_are_seen(profile: Profile) -> None:
    right = Prediction(profile, "here", rows(times(profile, {}), profile, tuple(DESIGNS)))
    assert right.good and right.median_error < 1e-9 and right.worst.error == pytest.approx(0)
    assert right.median_own_error < 1e-9 and right.worst_own and right.worst_own.access_error == pytest.approx(0)
    late = Prediction(profile, "here", rows(times(profile, {"dma-buffer": 20.0}), profile, tuple(DESIGNS)))
    assert not late.good and late.worst.design == "dma-buffer" and late.worst.error == pytest.approx(1 / 20 - 1)
    assert ("dma-buffer", "window") in late.swapped(PAGE_SIZE) and ("bounce", "window") not in late.swapped(PAGE_SIZE)
    document = predicted(late)
    assert not document.good and WrongOrder(PAGE_SIZE, ("dma-buffer", "window")) in document.wrong_order
    assert len(document.rows) == len(DESIGNS) * len(SIZES)
    assert late.worst_own and late.worst_own.design == "dma-buffer"
    assert document.worst_own_error == late.worst_own.access_error < -0.9, "the shared I/O hides nothing of it"


def test_a_part_smaller_than_the_scatter_is_no_error(profile: Profile) -> None:
    shown, hidden = (Forecast("a", 4096, Interval(90, 90), Spread(100, low, 105, 9), 80) for low in (95, 80))
    assert shown.access_error == pytest.approx(-0.5) and math.isnan(hidden.access_error)
    found = Prediction(profile, "here", [shown, hidden])
    assert found.own == [shown] and not found.good, "half of what a design adds is missing"
    assert Prediction(profile, "here", [hidden]).good


def test_overlapping_quartiles_are_no_order(profile: Profile) -> None:
    near = [
        Forecast("a", 4096, Interval(90, 90), Spread(105, 95, 115, 9), 0),
        Forecast("b", 4096, Interval(100, 100), Spread(100, 90, 110, 9), 0),
    ]
    assert Prediction(profile, "here", near).swapped(4096) == []


def test_what_only_a_cpu_does_is_left_out(profile: Profile) -> None:
    counts = counted(profile, "iommu", 4)
    assert counts["io_pte_set"] == 4 and counts["ranges"]["hyp_pte_set"] == 1 and counts["hypercalls"] == 1
    assert not {"hops", "hops_by_edge", "hypercalls", "io_pte_set"} & set(host_only(counts))


def test_every_design_has_a_compiled_request_that_leaves_nothing_open() -> None:
    with TimedHost(4 << 20) as host:
        host.memory.guest.memory[:] = bytes(range(256)) * (len(host.memory.guest.memory) // 256)
        for name, timed in requests(host, tuple(DESIGNS)).items():
            assert timed.time(2)[0] > 0, name


@pytest.mark.parametrize("design", DESIGNS)
def test_a_compiled_request_moves_the_bytes(design: str) -> None:
    with TimedHost(4 << 20) as host:
        host.memory.guest.memory[: 2 * PAGE_SIZE] = b"guest!!!" * (PAGE_SIZE // 4)
        PrimitiveScript(host.request(design, 2)).time(1)
        assert host.disk_bytes(2 * PAGE_SIZE) == b"guest!!!" * (PAGE_SIZE // 4)
        assert host.disk_bytes(3 * PAGE_SIZE)[2 * PAGE_SIZE :] == bytes(PAGE_SIZE)


@pytest.mark.parametrize(("guest", "host"), [("", ""), ("bounce", ""), ("", "remap")])
def test_a_request_with_a_part_alone_is_done(guest: str, host: str) -> None:
    spent = periods("unicorn", guest, host, 2, 9)
    assert 2 <= len(spent) <= 9 - 1 - 4 and min(spent) > 0  # without those that were interrupted


def test_the_bare_guest_neither_copies_nor_shares_as_it_goes() -> None:
    bare, window = (writes(design, 8192, 9) for design in ("", "window"))
    assert {*window.steps} - {*bare.steps} == {Act.SHARE, Act.UNSHARE} and bare.outs == 9 + 2
    assert writes("bounce", 8192, 9, fills=False).steps[0] is Act.COPY_OUT


def test_the_hosts_own_bytes_are_one_written_page_again_and_again() -> None:
    """A buffer of zeroes that nobody has written took longer than a copy that was then priced at nothing."""
    stamps = Stamps(8192)
    with (
        disk_for(8192) as disk,
        machine_for(RunPlan("window", cpu="unicorn"), writes("", 8192, 3), disk, stamps) as made,
    ):
        assert made.run().failures == 0
        written = bytes(disk.read())
    assert len(stamps.times) == 3 and written == written[:1] * 8192 != bytes(8192)


def test_requests_in_which_or_before_which_another_had_the_cpu_do_not_count() -> None:
    times, taken_away = np.arange(12.0), np.zeros(12)
    assert _undisturbed(times, taken_away).tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    taken_away[[3, 8]] = 1
    assert _undisturbed(times, taken_away).tolist() == [5, 6, 7, 10, 11]
    assert _undisturbed(times, np.ones(12)).tolist() == [4, 5, 6, 7, 8, 9, 10, 11], "too few are left"


def test_stamps_change_nothing_but_the_bare_path() -> None:
    stamps = Stamps()
    path = stamps.path(lambda request: request)  # type: ignore[arg-type,return-value]  # what it gives is passed on
    assert path("x") == "x" and len(stamps.times) == 1  # type: ignore[arg-type,comparison-overlap]  # as above
    assert stamps.run(lambda: 7) == 7  # type: ignore[arg-type,return-value,comparison-overlap]  # as above


def test_the_interpreted_cpu_has_no_times() -> None:
    with pytest.raises(UserMistake, match="interpreted"):
        predict_runs("interpreted")
    with disk_for(4096) as disk:
        assert disk.read().size == 4096


def test_whole_requests_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_runs, "SIZES", (1,))
    monkeypatch.setattr(sampling, "LEAST", 2)
    monkeypatch.setattr(prediction_runs, "ROUNDS", 1)
    found = predict_runs("unicorn", seconds=0.3, designs=("window", "splice", "iommu"))
    assert [row.design for row in found.rows] == ["window", "splice", "iommu"] and "unicorn" in found.where
    assert all(row.predicted.low > row.io > 0 and row.measured.samples >= 2 for row in found.rows)
    assert "a request on unicorn" in found.profile.prices["hypercalls"].source


def test_the_bare_guest_is_in_every_turn_and_each_design_once() -> None:
    for turn in range(12):
        order = prediction_runs._order(("a", "b", "c"), turn)
        assert sorted(order) == ["", "", "a", "b", "c"]
    assert len({prediction_runs._order(("a", "b", "c"), turn)[0] for turn in range(5)}) == 4


def test_what_cannot_be_predicted_is_refused() -> None:
    with open_disk(default_mix(1), None, False) as disk, pytest.raises(UserMistake, match="uffd-window"):
        run_modes.predict(RunPlan(isolated=True), default_mix(1), disk, ProgressBars())


def test_a_profile_of_its_own_or_one_that_is_given(profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "given.toml"
    path.write_text(to_toml(profile))
    given = predict(load_profile(path), seconds=0.2, designs=("window", "splice"))
    own = predict(seconds=0.2, designs=("window", "splice"))
    assert given.profile.prices["tlbi"].value.low == 500 and own.profile.name == "this-host"
    for made in (given, own):
        assert [(row.design, row.bytes) for row in made.rows] == [
            (design, pages * PAGE_SIZE) for pages in SIZES for design in ("window", "splice")
        ]
        assert all(0 < row.io < row.predicted.low and row.measured.median > 0 for row in made.rows)
