"""What the model predicts is what the machine does: the same counts, to the last one, for each design and CPU."""

import pytest

from live import require
from pagewarden.designs import DESIGNS
from pagewarden.studies.run import measure
from pagewarden.studies.run.disk import open_disk
from pagewarden.studies.run.measure import Check, CountCheck, check_counts, predict, workload
from pagewarden.studies.run.plan import default_mix
from pagewarden.workload import Workload


def checked(cpu: str, backing: str, design: str, requests: Workload | None = None) -> Check:
    requests = requests or workload()
    with open_disk(requests, None, False) as disk:
        found = check_counts((cpu,), backing, disk, requests, (design,))
    for missing in found.missing.values():
        require(False, missing)
    return found


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(
    ("cpu", "backing"),
    [
        ("unicorn", "uffd-window"),
        ("unicorn", "memfd-secret"),
        ("kvm", "uffd-window"),
        ("interpreted", "uffd-window"),
        ("interpreted", "hybrid"),
        ("interpreted", "memfd-secret"),
        ("unicorn", "memfd"),
    ],
)
def test_counts_are_the_models(cpu: str, backing: str, design: str) -> None:
    found = checked(cpu, backing, design)
    (result,) = found.results
    assert [line for line in result.lines if not line.equal] == [] and found.good
    needs_file = backing == "memfd-secret" and design in ("pread", "splice")
    assert result.refused == (needs_file, needs_file) and bool(result.lines) is not needs_file


@pytest.mark.parametrize("cpu", ["unicorn", "kvm"])
def test_the_kernel_counts_where_it_may(cpu: str) -> None:
    found = checked(cpu, "uffd-window", "remap")
    require(not found.no_kernel, found.no_kernel)
    (result,) = found.results
    by_kernel = {line.key for line in result.lines if line.source == "kernel"}
    assert by_kernel == {"access_syscalls", "tlbi"} | ({"exits"} if cpu == "kvm" else set())
    assert result.added["faults of the kernel on first touch"] > 0
    assert result.added["system calls for rings and headers"] > 0


def test_sizes_and_order_do_not_matter() -> None:
    assert checked("unicorn", "uffd-window", "window", default_mix(30)).good


def test_a_difference_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prediction for another kind of memory, one that maps shared pages when the host touches them."""
    monkeypatch.setattr(measure, "predict", lambda _, design, requests: predict("memfd", design, requests))
    found = checked("unicorn", "uffd-window", "window")
    (result,) = found.results
    wrong = [line for line in result.lines if not line.equal]
    assert {line.key for line in wrong} == {"hyp_pte_set", "hyp_pte_clear", "tlbi"} and not found.good
    assert not CountCheck("exits", 3, 4, "kernel").equal
