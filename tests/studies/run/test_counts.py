"""What the model predicts is what the machine does: the same counts, to the last one, for each design and CPU."""

from collections.abc import Callable

import pytest

from deep import at_every_depth, called
from live import require
from pagewarden.designs import DESIGNS
from pagewarden.guest.hypercalls import GuestReport
from pagewarden.kernel.door import syscall
from pagewarden.studies.run import measure
from pagewarden.studies.run.disk import open_disk
from pagewarden.studies.run.host_half import Done, Request
from pagewarden.studies.run.measure import OWN, Check, CountCheck, KernelMeter, check_counts, predict, workload
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


def counted(path: Callable[[], object]) -> tuple[int, int, int]:
    """System calls of ten requests that take this path, those of the interpreter's own apart, and flushes."""
    meter = KernelMeter()

    def done(request: Request) -> Done:
        path()
        return Done(0)

    def go() -> GuestReport:
        for _ in range(10):
            meter.path(done)(Request(0, 0, 0, True))
        return GuestReport(0, 0, 0)

    meter.run(go)
    own = meter.found["path", OWN]
    return meter.found["path", "syscalls"] - own, own, meter.flushes


def test_counts_do_not_depend_on_how_deep_the_caller_is() -> None:
    """Each request once mapped and unmapped a chunk of the interpreter's stack, where one ended there."""
    with measure._counters():  # else each closing of the last one waits
        found = set(at_every_depth(lambda: counted(lambda: called(4))))
    assert {(calls, flushes) for calls, _, flushes in found} == {(0, 0)}  # its locks wait when the machine is busy


def test_calls_of_the_interpreters_own_are_told_apart() -> None:
    def path() -> None:
        syscall("sched_yield")
        syscall("getppid")

    found = set(at_every_depth(lambda: counted(path), words=(8,)))
    assert {(calls, flushes) for calls, _, flushes in found} == {(10, 0)}
    assert all(own >= 10 for _, own, _ in found)
