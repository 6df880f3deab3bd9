"""A whole run: every design on every executor, the disk right to the byte, no secret of the guest in the host."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.designs import DESIGNS
from pagewarden.studies.run.disk import Extents, open_disk
from pagewarden.studies.run.one import Run, run
from pagewarden.studies.run.plan import RunPlan, default_mix, first
from pagewarden.vocab import UserMistake
from pagewarden.workload import Workload, load, single

MIX = default_mix(24)
COMMAND = [sys.executable, "-m", "pagewarden", "run"]
EXAMPLES = Path(__file__).parents[3] / "examples"


def ran(plan: RunPlan, workload: Workload = MIX, disk: Path | None = None, look: bool = False) -> Run:
    with open_disk(workload, disk, True) as opened:
        return run(replace(plan, verify=True), workload, opened, look)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("cpu", ["unicorn", "kvm", "interpreted"])
@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_on_every_cpu(design: str, cpu: str, batch: int) -> None:
    found = ran(RunPlan(design, cpu=cpu, batch=batch))
    assert found.good and found.differs == 0 and found.outcome.requests == found.requests == 24
    assert found.batches == -(-24 // batch) == found.counts["doorbells"]


@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret"])
def test_the_host_sees_nothing_of_the_guests_secret(backing: str) -> None:
    sight = ran(RunPlan(backing=backing), look=True).sight
    assert sight is not None and sight.leaks == 0 and sight.bytes > 1 << 20 and sight.mappings > 10
    assert sight.core or sight.core_why


def test_plain_shared_memory_leaks_and_says_so() -> None:
    found = ran(RunPlan(backing="memfd"), look=True)
    assert found.sight is not None and found.sight.hits and not found.good
    assert found.sight.core_hits or found.sight.core_why


@pytest.mark.parametrize(("policy", "leaks"), [("memfd", True), ("uffd-window", False), ("hybrid", False)])
def test_the_model_says_who_leaks(policy: str, leaks: bool) -> None:
    found = ran(RunPlan(cpu="interpreted", backing=policy), look=True)
    assert found.sight is not None and (found.sight.leaks > 0) is leaks and found.differs == 0


@pytest.mark.parametrize("example", ["randrw.iolog", "mixed.fio", "ext4.blkparse"])
def test_recorded_workloads(example: str) -> None:
    found = ran(RunPlan(batch=4), first(load(EXAMPLES / example), 60))
    assert found.good and found.differs == 0 and found.requests == 60


def test_the_users_file_holds_what_the_guest_wrote(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(16 << 20)
    assert ran(RunPlan(), disk=path).differs == 0
    assert path.stat().st_size == 16 << 20 and any(path.read_bytes())


def mistaken(workload: Workload, path: Path, overwrite: bool = False) -> str:
    """What is said of a disk that is turned down; its bytes are as before."""
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(UserMistake) as said, open_disk(workload, path, overwrite):
        pass
    assert (path.read_bytes() if path.is_file() else b"") == before
    return str(said.value)


def test_a_file_is_not_damaged_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(4095))
    assert "4,095 bytes and the workload reaches byte 4,096" in mistaken(single(4096), path)
    path.write_bytes(bytes(4095) + b"x")
    assert "not empty where the workload would write 4,096" in mistaken(single(4096), path)
    with open_disk(single(4096, write=False), path, False) as disk:
        assert disk.read_only and disk.read()[-1] == ord("x")
    path.write_bytes(bytes(4096) + b"precious")
    with open_disk(single(4096), path, False) as disk:
        assert not disk.read_only
    assert "neither a file" in mistaken(single(4096), tmp_path)
    assert "No such file" in mistaken(single(4096), tmp_path / "none")


def test_the_workload_is_never_the_disk(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("fio version 2 iolog\n/dev/x add\n/dev/x open\n" + "/dev/x write 0 512\n" * 60)
    before, requests = trace.read_bytes(), load(trace)
    (tmp_path / "link").symlink_to(trace)
    os.link(trace, tmp_path / "second")
    for name in ("trace", "link", "second"):
        with (
            pytest.raises(UserMistake, match="the file that the workload was read from"),
            open_disk(requests, tmp_path / name, True, source=trace),
        ):
            pass
    with trace.open("rb") as stdin:
        for given in (str(trace), "-"):
            arguments = [*COMMAND, given, "--disk", str(tmp_path / "second"), "--overwrite"]
            done = subprocess.run(arguments, stdin=stdin, capture_output=True, text=True)
            assert done.returncode == 2 and f"the file that the workload was read from ({given})" in done.stderr
    assert trace.read_bytes() == before


def test_a_reading_guest_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(16 << 20))
    before = path.read_bytes()
    reads = replace(MIX, write=np.zeros(24, bool))
    with open_disk(reads, path, False) as disk:
        assert run(RunPlan(verify=True), reads, disk, look=False).differs == 0
    assert path.read_bytes() == before


def test_what_no_block_device_can_do_is_a_mistake() -> None:
    for workload, why in (
        (single(100), "whole sectors"),
        (single(8 << 20), "4,194,304 at most"),
        (replace(single(), offset=np.array([7], np.uint64)), "whole sectors"),
        (first(single(), 0), "no requests"),
    ):
        with pytest.raises(UserMistake, match=why), open_disk(workload, None, False):
            pass
    for wrong in ({"cpu": "z80"}, {"isolated": True, "design": "splice"}, {"design": "teleport"}):
        with pytest.raises(UserMistake):
            RunPlan(**wrong)
    for plan, why in (
        (RunPlan(backing="tape"), "no backing"),
        (RunPlan(backing="guest-memfd"), "converts no page"),
    ):
        with pytest.raises(UserMistake, match=why), open_disk(MIX, None, False) as disk:
            run(plan, MIX, disk)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), min_size=1, max_size=12))
def test_extents_hold_each_byte_once(requests: list[tuple[int, int]]) -> None:
    offset, length = (np.array(column, np.int64) for column in zip(*requests, strict=True))
    extents = Extents.of(offset, length)
    touched = sorted({byte for start, count in requests for byte in range(start, start + count)})
    assert extents.bytes == len(touched) and extents.end == touched[-1] + 1
    assert extents.packed(np.array(touched)).tolist() == list(range(len(touched)))
