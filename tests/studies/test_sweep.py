"""A sweep's rows are what `compare` says of each point, whoever worked and however often it was stopped."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow
import pyarrow.parquet
import pytest
from msgspec.structs import replace

from pagewarden.check import many
from pagewarden.check.many import CutShort, Workers, workers
from pagewarden.cli.sweep import _tasks
from pagewarden.cost import load_profile
from pagewarden.designs import DESIGNS
from pagewarden.law import POLICIES
from pagewarden.report.console import console
from pagewarden.report.documents.sweep import Swept
from pagewarden.report.sweep import print_sweep, swept
from pagewarden.studies.compare.comparison import Setup, compare
from pagewarden.studies.sweep import SweepRow, sweep, write_rows
from pagewarden.vocab import UserMistake
from pagewarden.workload import load
from verbs import Verb, document

GRID = """
workloads = ["jobs.fio"]
sizes = ["4k,64k"]
policies = ["hybrid", "guest-memfd"]
profiles = ["vmx-skylake", "snp-epyc"]
[set]
in-flight = [8, 32]
tlbi_ns = [500, "1000..3000"]
"""
JOBS = "[global]\nsize=256k\nrw=randrw\nbsrange=4k-64k\n[a]\n[b]\niodepth=4\n"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    (tmp_path / "jobs.fio").write_text(JOBS)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path / "grid.toml"


def quiet(done: int, total: int) -> None:
    pass


def here(function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
    return list(map(function, tasks))


def test_every_point_is_what_compare_says(grid: Path) -> None:
    tasks, identity = _tasks(grid, None)
    rows = sweep(tasks, Workers(1, here), grid.with_suffix(".part"), identity, quiet)
    assert len(rows) == 3 * 2 * 2 * 2 * 2 * len(DESIGNS) == sum(task.points for task in tasks)
    chosen = [
        row for row in rows if (row["workload"], row["in-flight"], row["tlbi_ns"]) == ("jobs.fio", "8", "1000..3000")
    ]
    assert (
        len({(row["policy"], row["profile"], row["design"]) for row in chosen}) == 2 * 2 * len(DESIGNS) == len(chosen)
    )
    for policy in ("hybrid", "guest-memfd"):
        for name in ("vmx-skylake", "snp-epyc"):
            profile = load_profile(name).with_settings({"tlbi_ns": "1000..3000"})
            said = compare(Setup(POLICIES[policy], profile, in_flight=8), load(grid.parent / "jobs.fio"))
            mine = {row["design"]: row for row in chosen if (row["policy"], row["profile"]) == (policy, name)}
            assert {design for design, row in mine.items() if row["pareto"]} == set(said.contenders)
            for result in said.results:
                row = mine[result.name]
                assert (row["refused"] is None) == (result.ns is not None)
                if result.ns is not None:
                    assert (row["low_ns"], row["high_ns"]) == pytest.approx(tuple(result.ns))
                    assert row["hops"] == result.per_request["hops"]


def test_a_row_without_numbers_says_why(grid: Path) -> None:
    """A pool that is too small refuses nothing by the law: requests wait."""
    grid.write_text('workloads = ["jobs.fio"]\nprofiles = ["vmx-skylake"]\n[set]\npool-pages = [1]\n')
    (grid.parent / "jobs.fio").write_text(JOBS.replace("[global]", "[global]\ndirect=1"))
    tasks, identity = _tasks(grid, None)
    why = {
        row["design"]: row["refused"] for row in sweep(tasks, Workers(1, here), grid.with_suffix(".p"), identity, quiet)
    }
    assert why.pop("dma-buffer") == "does not apply: the job is direct I/O, without a page cache"
    assert why.pop("bounce") == "the request has to wait for what it does not get (pool exhausted)"
    assert set(why.values()) == {None}


class Killed(Exception):
    """In place of a SIGKILL: nothing is tidied up behind it."""


def test_what_was_killed_goes_on(grid: Path) -> None:
    tasks, identity = _tasks(grid, None)
    whole = sweep(tasks, Workers(1, here), grid.with_suffix(".whole"), identity, quiet)
    journal, asked = grid.with_suffix(".part"), list[int]()

    def dies(function: Callable[[Any], Any], some: Sequence[Any]) -> list[Any]:
        if asked:
            raise Killed
        asked.append(len(some))
        return here(function, some)

    def goes_on(function: Callable[[Any], Any], some: Sequence[Any]) -> list[Any]:
        asked.append(len(some))
        return here(function, some)

    with pytest.raises(Killed):
        sweep(tasks, Workers(1, dies), journal, identity, quiet)
    known = journal.read_bytes()
    journal.write_bytes(known[:-10])  # the last line was being written
    assert sweep(tasks, Workers(1, goes_on), journal, identity, quiet) == whole
    assert sum(asked) == len(tasks) + 1
    journal.write_bytes(known)
    asked[:] = []
    assert (
        sweep(tasks[:9], Workers(1, goes_on), journal, b"another grid", quiet) == whole[: len(whole) * 9 // len(tasks)]
    )
    assert sum(asked) == 9


def test_ctrl_c_keeps_what_is_known_and_says_so(verb: Verb, grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, _ = _tasks(grid, None)
    points = sum(task.points for task in tasks)

    def struck(function: Callable[[Any], Any], some: Sequence[Any]) -> list[Any]:
        raise CutShort([*here(function, some[:2]), *[None] * (len(some) - 2)])

    @contextmanager
    def two(executor: str) -> Iterator[Workers]:
        yield Workers(1, struck)

    out = grid.with_suffix(".csv")
    with monkeypatch.context() as patch:
        patch.setattr(many, "workers", two)
        said = verb("sweep", str(grid), "--out", str(out), code=130)
    kept = sum(task.points for task in tasks[:2])
    assert f"stopped: {kept} of {points} points kept in {out}.part; the same command goes on" in said.stderr
    assert not said.stdout and not out.exists()
    assert len(out.with_name(f"{out.name}.part").read_bytes().splitlines()) == 1 + 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_result_that_is_cut_off_is_not_there(tmp_path: Path, suffix: str) -> None:
    (out := tmp_path / f"rows.{suffix}").write_text("of before")
    with pytest.raises((TypeError, pyarrow.ArrowInvalid)):
        write_rows([{"a": 1}, {"a": cast(str, Cut())}], out)
    assert out.read_text() == "of before" and list(tmp_path.iterdir()) == [out]


class Cut:
    """A value whose writing ends in the middle."""

    def __str__(self) -> str:
        raise TypeError


def test_the_summary_has_every_design_that_wins(capsys: pytest.CaptureFixture[str]) -> None:
    wins = {"dma-buffer": 24, "bounce": 24, "splice": 2, "iommu": 2}
    decides = {"tlbi": 4, "pins": 3, "faults": 2, "copy_warm": 1, "copy_cold": 1}
    row: SweepRow = {"workload": "w", "refused": None, "pareto": False, "decides": None}
    (one,) = swept([row | {"design": name} for name in wins for _ in range(24)], Path("x.csv"), []).workloads
    assert (one.points, one.setups) == (96, 24)
    print_sweep(Swept(out="x.csv", policies=[], settings={}, prices={}, points=96, notes=[],
                      workloads=[replace(one, wins=wins, decides=decides)]), console())  # fmt: skip
    said = capsys.readouterr().out
    assert "not beaten, of 24 settings" in said and "dma-buffer 24, bounce 24, splice 2, iommu 2" in said
    assert "tlbi 4, pins 3, faults 2 and 2 more" in said


def test_both_forms_and_all_workers_say_the_same(verb: Verb, grid: Path) -> None:
    said = document(verb, "sweep", str(grid), "--out", str(grid.with_suffix(".csv")))
    verb("sweep", str(grid), "--out", str(grid.with_suffix(".parquet")))
    assert said["points"] == sum(each["points"] for each in said["workloads"])
    with grid.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(grid.with_suffix(".parquet")).to_pylist()
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in table] == rows
    tasks, identity = _tasks(grid, None)
    alone = sweep(tasks, Workers(1, here), grid.with_suffix(".alone"), identity, quiet)
    assert table == alone and not list(grid.parent.glob("*.csv.part"))


def test_a_dask_cluster_gives_the_same(grid: Path) -> None:
    from distributed import LocalCluster

    tasks, identity = _tasks(grid, None)
    alone = sweep(tasks, Workers(1, here), grid.with_suffix(".alone"), identity, quiet)
    cluster: Any = LocalCluster
    two = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with (
        cluster(**two, dashboard_address=":0", protocol="tcp") as found,
        workers(f"dask://{found.scheduler_address.removeprefix('tcp://')}") as pool,
    ):
        assert pool.width == 2
        assert sweep(tasks, pool, grid.with_suffix(".part"), identity, quiet) == alone


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sizes = [", "grid.toml"),
        ("policies = ['hybrid']", "nothing to sweep"),
        ("sizes = ['4k']\npolicies = []", "policies is empty"),
        ("sizes = ['4k']\nset = {batch = []}", "batch is empty"),
        ("sizes = ['4k']\nset = {bach = [true]}", "did you mean 'batch'"),
        ("sizes = ['4k']\npolices = ['hybrid']", "polices"),
    ],
)
def test_a_grid_that_is_none_says_why(grid: Path, text: str, says: str) -> None:
    grid.write_text(text)
    with pytest.raises(UserMistake, match=says):
        _tasks(grid, None)


def test_a_name_that_is_no_table_is_refused(verb: Verb, grid: Path) -> None:
    assert ".csv or .parquet" in verb("sweep", str(grid), "--out", "rows.txt", code=2).stderr


def test_rows_of_nothing(tmp_path: Path) -> None:
    write_rows([{"a": 1, "b": None}], tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "a,b\n1,\n"
