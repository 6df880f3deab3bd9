"""Every path for real, on a memory without a guard (it must get through, or it proves nothing) and on a guarded one."""

import os
import socket
from collections.abc import Mapping

import pytest

from live import require
from pagewarden.abi import memory as uapi
from pagewarden.kernel import door
from pagewarden.probe import raw
from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.paths import direct, pipes
from pagewarden.probe.registry import Direction, Path
from pagewarden.probe.runner import ChildJob, TrialCase, run_all
from pagewarden.probe.trial import State, TrialResult, TrialVerdict
from pagewarden.vocab import Unavailable
from standin import Guarded, Plain
from waits import SOON

READ, WRITE = Direction.READ, Direction.WRITE
Key = tuple[str, str, Direction, State]

SILENT = {
    ("mincore", READ),
    ("pagemap", READ),  # tell residency, never bytes
    ("madvise-dontneed", WRITE),
    ("madvise-pageout", WRITE),  # ask for what must lose nothing
}
"""Paths that show and change nothing even where nothing is guarded."""
DESTROYS = {("madvise-remove", READ)}
"""Reads that lose the bytes first."""
NEEDS_A_GUARD = {"userfaultfd-kept", "userfaultfd-unregister"}
"""Attacks on a userfaultfd guard: there is none on a plain memory."""
GETS_ROUND = {
    "madvise-dofork",
    "madvise-dofork-before",
    "madvise-remove",
    "map_files",
    "mremap",
    "mremap-dontunmap",
    "mremap-dontunmap-before",
    "mremap-dup",
    "mremap-dup-before",
    "pidfd_getfd",
    "proc-fd",
    "ptrace-attach",
    "remap_file_pages",
    "sendfile",
    "splice-fd",
    "userfaultfd-kept",
    "userfaultfd-unregister",
    "warden-mapping",
    "warden-mem",
}
"""What a host in the warden's own process gets round the guard with, whatever the page's history."""
HOLDS_ON = {
    "io_uring-read-registered-before",
    "io_uring-write-registered-before",
    "msg_zerocopy-before",
    "o_direct-read-in-flight",
    "o_direct-write-in-flight",
    "tee-before",
    "vmsplice-before",
}
"""What keeps a page that was shared once, where unshare does not replace it."""
BY_LUCK = {"madvise-collapse"}
"""Gets round the stand-in's guard only when the kernel finds a free huge page and takes the advice."""
EVERY = [pytest.param(path, id=f"{path.name}-{path.direction}") for path in PATHS.values()]


@pytest.fixture(scope="module")
def verdicts() -> Mapping[Key, TrialVerdict]:
    jobs = [
        ChildJob(stage, [TrialCase((stage.__name__, path.name, path.direction, state), path, state)])
        for stage in (Plain, Guarded)
        for path in PATHS.values()
        for state in State
    ]
    return dict(run_all(jobs, seconds=SOON))


def of(verdicts: Mapping[Key, TrialVerdict], stage: type, path: Path, state: State) -> TrialVerdict:
    verdict = verdicts[stage.__name__, path.name, path.direction, state]
    require(verdict.result is not TrialResult.UNTRIED, verdict.reason or "")
    return verdict


def test_there_are_forty_paths_and_more() -> None:
    assert len({name for name, _ in PATHS}) >= 40
    assert {direction for _, direction in PATHS} == set(Direction)
    assert all(path.about and len(path.about) < 120 for path in PATHS.values())


@pytest.mark.parametrize("path", EVERY)
def test_a_path_gets_through_where_nothing_is_guarded(verdicts: Mapping[Key, TrialVerdict], path: Path) -> None:
    path.requires()
    for state in State:
        verdict = verdicts[Plain.__name__, path.name, path.direction, state]
        if path.name in NEEDS_A_GUARD:
            assert verdict.result is TrialResult.UNTRIED
        elif (path.name, path.direction) in SILENT:
            assert verdict == TrialVerdict(TrialResult.ALLOWED)
        elif (path.name, path.direction) in DESTROYS:
            assert verdict.result is TrialResult.TORN
        elif state is State.SHARED:
            assert verdict == TrialVerdict(TrialResult.ALLOWED, touched=True)
        else:
            assert verdict.result is (TrialResult.LEAK if path.direction is READ else TrialResult.TORN)


@pytest.mark.parametrize("path", EVERY)
def test_a_guarded_page_that_was_never_shared(verdicts: Mapping[Key, TrialVerdict], path: Path) -> None:
    verdict = of(verdicts, Guarded, path, State.PRIVATE)
    if path.name in BY_LUCK:
        return
    known = path.name in GETS_ROUND and (path.name, path.direction) not in SILENT
    assert verdict.touched is known, verdict
    assert (verdict.result in (TrialResult.LEAK, TrialResult.TORN)) is known


@pytest.mark.parametrize("path", EVERY)
def test_a_guarded_page_that_was_shared_once(verdicts: Mapping[Key, TrialVerdict], path: Path) -> None:
    verdict = of(verdicts, Guarded, path, State.AGAIN)
    if path.name in BY_LUCK:
        return
    if path.name == "mlock-before":  # the stand-in's plain MADV_DONTNEED does not undo it: unshare says so
        assert verdict == TrialVerdict(TrialResult.REFUSED, "EINVAL")
        return
    known = path.name in GETS_ROUND | HOLDS_ON and (path.name, path.direction) not in SILENT
    assert (verdict.result in (TrialResult.LEAK, TrialResult.TORN)) is known, verdict


@pytest.mark.parametrize("path", EVERY)
def test_a_guarded_page_while_it_is_shared(verdicts: Mapping[Key, TrialVerdict], path: Path) -> None:
    verdict = of(verdicts, Guarded, path, State.SHARED)
    if path.name.startswith("fork"):
        assert verdict == TrialVerdict(TrialResult.REFUSED, "SIGSEGV")  # a child has no window
    elif path.name == "madvise-dontneed" and path.direction is READ:
        assert verdict == TrialVerdict(TrialResult.REFUSED, "EFAULT")  # the host has closed it itself
    elif (path.name, path.direction) not in SILENT | DESTROYS:
        assert verdict == TrialVerdict(TrialResult.ALLOWED, touched=True)


def test_a_send_that_would_block_is_said_before_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = pipes.connection

    def narrow() -> tuple[socket.socket, socket.socket]:
        """As where net.core.wmem_max caps what was asked for."""
        transmit, receive = connect()
        transmit.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return transmit, receive

    monkeypatch.setattr(pipes, "connection", narrow)
    with pytest.raises(Unavailable, match=r"a send would block.*set net\.core\.wmem_max"):
        pipes.queued_zerocopy()


def test_what_speaks_against_direct_io() -> None:
    disk = next(iter(direct.block_devices())).split(":")
    known = {"stx_mask": uapi.STATX_DIOALIGN, "stx_dio_mem_align": 512, "stx_dio_offset_align": 512}
    on_disk = {"stx_dev_major": int(disk[0]), "stx_dev_minor": int(disk[1])}
    assert direct.why_not_direct(uapi.statx(**known, **on_disk)) == ""
    assert "STATX_DIOALIGN" in direct.why_not_direct(uapi.statx(**{**known, "stx_mask": 0}, **on_disk))
    assert "copies" in direct.why_not_direct(uapi.statx(**{**known, "stx_dio_mem_align": 0}, **on_disk))
    assert "no block device" in direct.why_not_direct(uapi.statx(**known, stx_dev_major=0, stx_dev_minor=9999))


def test_statx_says_where_a_file_lies() -> None:
    with raw.scratch() as (fd, _):
        found, known = door.statx(fd, uapi.STATX_DIOALIGN), os.fstat(fd)
        assert (found.stx_dev_major, found.stx_dev_minor) == (os.major(known.st_dev), os.minor(known.st_dev))


def test_a_scratch_file_that_cannot_be_made_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with pytest.raises(Unavailable, match=r"no unnamed file in /nowhere .*set TMPDIR"), raw.scratch():
        pass
