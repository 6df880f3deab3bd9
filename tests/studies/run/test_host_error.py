"""What the host refuses is said first, with its errno and what helps, and is never the guest's fault."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from doorbells import AtDoorbells
from live import require
from pagewarden.designs import DESIGNS
from pagewarden.kernel.door import bytes_address as at
from pagewarden.kernel.door import syscall
from pagewarden.studies.run import disk as disks
from pagewarden.studies.run.disk import DiskFile, open_disk
from pagewarden.studies.run.host_error import Errors, HostError
from pagewarden.studies.run.one import Run, run
from pagewarden.studies.run.plan import BY_FD, RunPlan, default_mix
from pagewarden.vocab import UserMistake
from pagewarden.workload import Workload

MIX = default_mix(12)
WRITES = int(MIX.write.sum())
COMMAND = [sys.executable, "-m", "pagewarden", "run"]


def ran_on(plan: RunPlan, fd: int) -> Run:
    with open_disk(MIX, None, False) as opened:
        content, extents = opened.read(), opened.extents
    writable = DiskFile(os.dup(fd), extents, False, "a disk")
    try:
        writable.write(content)
        fd = os.open(f"/proc/self/fd/{writable.fd}", os.O_RDONLY)
    finally:
        os.close(writable.fd)
    try:
        return run(plan, MIX, DiskFile(fd, extents, False, "a disk that takes no writes"), look=False)
    finally:
        os.close(fd)


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("design", DESIGNS)
def test_a_disk_that_takes_no_writes_is_the_hosts_fault(design: str, isolated: bool, tmp_path: Path) -> None:
    if isolated and design in BY_FD:
        with pytest.raises(UserMistake):
            RunPlan(design, isolated=True)
        return
    with (tmp_path / "disk").open("w+b") as file:
        file.truncate(32 << 20)
        found = ran_on(RunPlan(design, "uffd-window", isolated=isolated), file.fileno())
    error = found.host_error
    assert found.outcome.failures >= WRITES and found.status == 2 and not found.good
    assert error is not None and error.errno == errno.EBADF and error.times == WRITES
    first = int(MIX.write.argmax())
    assert f"{MIX.length[first]} bytes at byte {MIX.offset[first]} of the disk" in error.what.replace(",", "")
    assert error.what.startswith("the device process says: ") is isolated


def reading(requests: int) -> Workload:
    return replace(default_mix(requests), write=np.zeros(requests, bool))


def test_a_disk_that_becomes_shorter_is_the_hosts_fault(tmp_path: Path) -> None:
    """By another process, while the run goes on."""
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(16 << 20))
    shorten = AtDoorbells({3: lambda: os.truncate(path, 0)})
    with open_disk(reading(8), path, False) as opened:
        found = run(RunPlan(backing="uffd-window"), reading(8), opened, False, shorten)
    assert found.host_error is not None and found.status == 2 and found.outcome.first_failure == 3
    assert found.host_error.errno == errno.EIO and " of the disk" in found.host_error.what


@contextlib.contextmanager
def small_disk(tmp_path: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes."""
    place, source = tmp_path / "small", b"none\0"
    place.mkdir()
    kind, options, where = b"tmpfs\0", f"size={size}".encode() + b"\0", os.fsencode(place) + b"\0"
    try:
        syscall("mount", at(source), at(where), at(kind), 0, at(options))
    except OSError as refused:
        require(False, f"mount of a tmpfs: {refused}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_heads_the_report(tmp_path: Path) -> None:
    with small_disk(tmp_path, 256 << 10) as place:
        with (place / "disk").open("wb") as file:
            file.truncate(16 << 20)
        arguments = ["--disk", str(place / "disk"), "--backing", "uffd-window", "--requests", "64"]
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        head, _, rest = done.stdout.partition("design   window")
        assert head.startswith("The host failed") and rest
        assert "ENOSPC, No space left on device" in head and "make room there" in head.replace("\n", " ")
        done = subprocess.run([*COMMAND, *arguments, "--overwrite", "--json"], capture_output=True, text=True)
        error = json.loads(done.stdout)["host_error"]
        assert done.returncode == 2 and (error["errno"], error["name"]) == (errno.ENOSPC, "ENOSPC")
        assert error["times"] > 1 and error["remedy"] and " of the disk" in error["what"]
        done = subprocess.run([*COMMAND, *arguments, "--overwrite", "--check-counts"], capture_output=True, text=True)
        assert done.returncode == 2 and "ENOSPC" in done.stderr and done.stderr.count("\n") == 1


def test_no_room_for_a_temporary_disk_is_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path, 64 << 10) as place:
        done = subprocess.run(COMMAND, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(place)})
    assert done.returncode == 2 and "No space left" in done.stderr and "TMPDIR" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_backing_without_the_design_is_not_the_disks_fault() -> None:
    with open_disk(MIX, None, False) as opened:
        found = run(RunPlan("pread", "memfd-secret", "interpreted"), MIX, opened, look=False)
    assert found.status == 2 and found.host_error is not None and "--backing uffd-window" in str(found.host_error)


def test_what_an_untrusted_process_says_of_errors_is_only_words() -> None:
    told = Errors()
    for message in (b"", b"5", b"x 1 y", b"5 -1 y", b"\xff\xfe 1 y", b"99999999999 1 y"):
        told.unpack(message, "it")
        assert told.first is None
    told.unpack(b"5 2 a\x1b[2Jb", "it")
    assert told.first == HostError(5, "it: a[2Jb", 2)
    kept = Errors()
    kept.note(OSError(errno.ENOSPC, ""), "w" * 500)
    packed = kept.packed()
    assert len(packed) == 240 and kept.packed() == b""
    told.unpack(packed, "it")
    assert told.first is not None and told.first.times == 3


def mistaken(path: Path, write: bool = True) -> str:
    mix = replace(default_mix(4), write=np.full(4, write))
    with pytest.raises(UserMistake) as said, open_disk(mix, path, True):
        pass
    return str(said.value)


def test_a_disk_in_use_is_refused_with_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(32 << 20))
    (tmp_path / "other").symlink_to(path)
    os.link(path, tmp_path / "third")
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl; f=open({str(path)!r}); fcntl.flock(f, 2); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdout.readline()
    for name in ("disk", "other", "third"):
        for write in (True, False):
            assert f"in use as a disk by process {holder.pid} (python" in mistaken(tmp_path / name, write)
    holder.communicate(b"\n")
    with open_disk(default_mix(4), path, True):
        assert "by this very process" in mistaken(path) and "this very process" in mistaken(tmp_path / "third")
    with open_disk(default_mix(4), path, True):
        pass


def test_readers_share_a_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(32 << 20))
    with open_disk(reading(4), path, False), open_disk(reading(4), path, False):
        assert "in use" in mistaken(path)


def test_without_locks_it_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(fd: int, shared: bool, wait: bool = False) -> int | None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(disks, "lock", none)
    path = tmp_path / "disk"
    path.write_bytes(bytes(32 << 20))
    with open_disk(default_mix(4), path, True) as opened:
        assert opened.why.endswith("not locked (No locks available)")
