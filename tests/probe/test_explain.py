"""The system calls of a path, as the kernel saw them."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.explain import calls_of
from pagewarden.probe.paths.peers import peers
from pagewarden.probe.registry import Direction
from pagewarden.vocab import Unavailable

READ, WRITE = Direction.READ, Direction.WRITE


@pytest.fixture(autouse=True)
def traced() -> None:
    peers()


def test_a_call_shows_the_page_and_what_it_came_to() -> None:
    calls = [call for call in calls_of(PATHS["mremap", READ]) if call is not None]
    (moved,) = [call for call in calls if call.call.startswith("mremap(")]
    assert moved.call.startswith("mremap(PAGE, 4096, 4096, 3, 0x") and moved.process == 0
    (shown,) = [call for call in calls if call.call.startswith("write(")]
    assert moved.result in shown.call and "<pipe>" in shown.call and shown.result == "64"


def test_vectors_are_shown_and_where_the_conversion_comes() -> None:
    calls = calls_of(PATHS["vmsplice-before", READ])
    turn = calls.index(None)
    assert any("vmsplice(" in call.call and "[(PAGE, 64)]" in call.call for call in calls[:turn] if call)
    assert any(call.call.startswith("read(") for call in calls[turn + 1 :] if call)
    assert None not in calls_of(PATHS["futex-wake-op", WRITE])


def test_what_a_forked_process_does_is_shown_as_its_own() -> None:
    calls = [call for call in calls_of(PATHS["process_vm_readv-peer", READ]) if call is not None]
    (reached,) = [call for call in calls if call.call.startswith("process_vm_readv(")]
    assert reached.process == 1 and reached.result == "64" and "[(PAGE, 64)]" in reached.call


def test_a_refusal_is_its_errno() -> None:
    calls = [call for call in calls_of(PATHS["remap_file_pages", READ]) if call is not None]
    assert any(call.call.startswith("remap_file_pages(PAGE, 4096, 0, ") for call in calls)
    private = [call for call in calls_of(PATHS["madvise-free", READ]) if call is not None]
    assert [call.result for call in private if call.call == "madvise(PAGE, 4096, 8)"] == ["EINVAL"]


def test_a_tracer_is_not_traced_and_no_process_is_left() -> None:
    before = children()
    with pytest.raises(Unavailable, match="traced"):
        calls_of(PATHS["ptrace-peek", READ])
    assert children() == before


def children() -> list[str]:
    """Of this process, those that nobody waited for included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(path.parent.name)
    return sorted(found)
