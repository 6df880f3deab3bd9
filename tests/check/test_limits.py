"""A search that is cut short: the limits hold wherever states are found, and say so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pagewarden.check.many import Workers
from pagewarden.check.matrix import CellOf, matrix
from pagewarden.check.minimal import minimal_sets
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting
from pagewarden.check.search.explorer import FILL, MOST_SLOTS, Limits, SoFar, larger
from pagewarden.check.verdict import ALONE, check
from pagewarden.designs import DESIGNS
from pagewarden.kernel import free_memory
from pagewarden.law import POLICIES
from pagewarden.vocab import UserMistake

HERE = Workers(1, lambda function, tasks: [function(task) for task in tasks])
BIG = Setting(POLICIES["hybrid"], vcpus=2)
LEAKY = Setting(POLICIES["memfd"], vcpus=2)
READS = ("host-never-reads-private",)


@pytest.mark.parametrize("search", ["apart", "together", "auto"])
@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(states=1000), "1,000 states"),
        (Limits(memory=2 << 20), "2,097,152 bytes of memory"),
        (Limits(seconds=0.0), "0 seconds"),
    ],
    ids=["states", "memory", "seconds"],
)
def test_a_page_is_searched_within_the_limits(search: str, limits: Limits, why: str) -> None:
    report = check(BIG, limits=limits, search=search)
    assert report.stops == (why,)
    assert report.open and not report.exhausted and report.exit_code == 2
    assert all(end.memory <= limits.memory for end in report.ends) and report.states < 60_000


def raising(error: type[BaseException]) -> Callable[[SoFar], None]:
    def progress(_: SoFar) -> None:
        raise error

    return progress


@pytest.mark.parametrize(("error", "why"), [(KeyboardInterrupt, "interrupted"), (MemoryError, "memory")])
@pytest.mark.parametrize("design", ["window", "bounce"])
def test_an_interrupted_page_says_what_is_known(error: type[BaseException], why: str, design: str) -> None:
    report = check(Setting(BIG.policy, DESIGNS[design]), search="apart", progress=raising(error))
    assert all(why in stop for stop in report.stops) and report.open and report.states > 0


def test_a_page_stops_at_what_is_asked() -> None:
    found, whole = (check(LEAKY, names, search="apart") for names in (READS, ()))
    assert found.exit_code == 1 and found.stops == ("every property asked for is decided",)
    path = next(verdict.path for verdict in whole.verdicts if verdict.name == READS[0])
    assert whole.exhausted and len(found.verdicts[0].path) == len(path)
    assert 10 * found.states < whole.states


def test_apart_as_many_states_at_each_depth_as_together() -> None:
    setting = Setting(POLICIES["hybrid"], pages=1, vcpus=1, strangers=stranger_named("strace,dma"))
    apart, together = (check(setting, READS, search=search) for search in ("apart", "together"))
    assert together.together and not apart.together
    assert apart.levels == together.levels and sum(apart.levels) == apart.states
    short = check(setting, READS, Limits(states=10), search="apart")
    assert not short.exhausted and sum(short.levels) == short.states
    assert short.levels[: short.depth] == apart.levels[: short.depth]


def test_auto_stops_thinking_of_several_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(BIG).states < ALONE  # it begins again with fewer
    monkeypatch.setattr("pagewarden.check.page.local.FOLDS", 1 << 30)
    report = check(BIG)
    assert report.exhausted and not report.together and report.states > ALONE


def test_a_page_with_too_many_states_for_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagewarden.check.page.local.MOST_LOCAL", 1000)
    with pytest.raises(UserMistake, match="1,000 states"):
        check(BIG, search="together")
    assert check(BIG, READS, search="apart").exit_code == 0


def test_matrix_and_minimal_sets_have_the_limits() -> None:
    lines = matrix(LEAKY, READS, HERE, Limits(seconds=0.0)).lines
    assert any(line.cells == {READS[0]: CellOf("open")} and not line.exhausted for line in lines)
    found = minimal_sets(LEAKY, READS, HERE, Limits(seconds=0.0))
    assert found.sets == [] and found.left > 0


def test_memory_is_what_the_group_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/other\n0::/outer/inner\n")
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path)
    monkeypatch.setattr(free_memory, "OWN", own)
    free = free_memory.available()
    assert free > 64 << 20
    for group, limit in ((inner, "max"), (inner.parent, str(48 << 20))):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{40 << 20}\n")
    assert free_memory.available() == 8 << 20
    (inner / "memory.max").write_text(f"{32 << 20}\n")
    assert free_memory.available() == 0, "more is in use than the group may have"
    (inner / "memory.stat").write_text(f"anon 1\ninactive_file {9 << 20}\n")
    assert free_memory.available() == 1 << 20, "what only lies in the page cache is no use of memory"


def test_memory_is_what_a_group_of_version_1_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "memory" / "outer" / "inner"
    inner.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("4:cpu,memory:/outer/inner\n1:name=systemd:/other\n0::/\n")
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path)
    monkeypatch.setattr(free_memory, "OWN", own)
    for group, limit in ((inner, 1 << 62), (inner.parent, 48 << 20)):
        (group / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (group / "memory.usage_in_bytes").write_text(f"{40 << 20}\n")
    (inner.parent / "memory.stat").write_text(f"inactive_file 0\ntotal_inactive_file {4 << 20}\n")
    assert free_memory.available() == 12 << 20
    own.write_text("4:cpu,memory:/of/the/host\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{7 << 20}\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("0\n")
    assert free_memory.available() == 7 << 20, "in a container there is no such path, and its root is its group"
    own.unlink()
    assert free_memory.available() == 7 << 20


def test_slots_have_numbers_of_32_bits() -> None:
    slots, widest = 1 << 16, 4096
    while more := larger(slots, 1 << 40, widest):
        assert slots < more <= MOST_SLOTS and int(more * FILL) >= int(slots * FILL) + widest
        slots = more
    assert slots == MOST_SLOTS
