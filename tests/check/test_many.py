"""Many checks at once: the answers in order, and what is known when they are cut short."""

import os
from collections.abc import Callable, Sequence
from multiprocessing import active_children, resource_tracker
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pagewarden.check.many import CutShort, Workers, workers
from pagewarden.check.matrix import matrix
from pagewarden.check.minimal import minimal_sets
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting
from pagewarden.law import APART, POLICIES
from pagewarden.report.check import matrix_document
from pagewarden.vocab import InternalError, Unavailable
from tasks import does

PANIC = ("host-never-panics",)
SETTING = Setting(POLICIES["hybrid"], pages=1, vcpus=1, strangers=stranger_named("strace"))


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


def test_workers_answer_and_leave_no_name_behind() -> None:
    before = set(Path("/dev/shm").iterdir())
    with workers() as pool:
        found = pool.map(does, ["answer"] * 5)
        assert len(set(found)) == 2 and str(os.getpid()) not in found
        assert set(pool.map(does, ["answer"])) < set(found), "the same ones"
        assert not any(path.name.startswith("sem.") for path in set(Path("/dev/shm").iterdir()) - before)
    assert not active_children()


def test_ctrl_c_reaches_no_worker_not_even_the_first() -> None:
    """The start of multiprocessing's own process, with the first, changes which signals get through."""
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
    with workers() as pool:
        assert pool.map(does, ["deaf"] * 2) == ["True"] * 2


def test_ctrl_c_leaves_the_answers_that_there_are() -> None:
    with workers() as pool, pytest.raises(CutShort) as cut:
        pool.map(does, ["answer", "wait", "interrupt", "answer"])  # the third begins when the first is known
    assert [answer is not None for answer in cut.value.answers] == [True, False, False, False]
    assert not active_children()


def test_a_worker_that_is_killed_or_fails() -> None:
    with workers() as pool, pytest.raises(Unavailable, match="was killed; memory may be short"):
        pool.map(does, ["wait", "die"])
    with workers() as pool, pytest.raises(InternalError, match="it failed") as failed:
        pool.map(does, ["wait", "fail"])
    assert "tasks.py" in failed.value.__notes__[0], "where it happened"
    assert not active_children()


def cut_after(count: int) -> Workers:
    def mapped(function: Callable[[Any], Any], tasks: Sequence[Any]) -> NoReturn:
        raise CutShort([function(task) for task in tasks[:count]] + [None] * (len(tasks) - count))

    return Workers(2, mapped)


def test_what_is_known_of_the_matrix_is_kept() -> None:
    found = matrix(SETTING, PANIC, cut_after(2))
    names = list(APART)
    assert (
        [line.policy.name for line in found.lines] == names[:2] and found.unknown == names[2:] and not found.exhausted
    )
    assert matrix_document(found).unknown == names[2:]


def test_what_is_known_of_minimal_sets_is_kept() -> None:
    found = minimal_sets(SETTING, PANIC, cut_after(1))
    assert found.interrupted and (found.left or found.sets)
