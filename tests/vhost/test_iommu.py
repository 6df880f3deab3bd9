"""A device in a process of its own, which sees what the guest maps for DMA while it does, and nothing else."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stubborn_device
from iommu_front import PAGE, IommuRig
from leftovers import descriptors
from pagewarden.abi import vhost_user as abi
from pagewarden.abi.vhost_user import VHOST_ACCESS_RO, VHOST_ACCESS_RW, BackRequest
from pagewarden.memory import PrivateMemory
from pagewarden.vhost import wire
from pagewarden.vhost.questions import NO_PAGE, Questions
from pagewarden.vhost.wire import WireKind
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.placing import WRITABLE
from pagewarden.vocab import Refused
from served_rig import MEMORY, ServerThread, opened_image
from virtio_kit import IN, OK, OUT, SECTOR, Rig
from waits import in_time

WHOLE = 1 << 41


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(np.random.default_rng(2).bytes(1 << 20))
    return path


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    with PrivateMemory(MEMORY, "memfd", shared=True) as made:
        yield made


@contextmanager
def served(image: Path, memory: PrivateMemory, **more: Any) -> Iterator[tuple[ServerThread, IommuRig]]:
    """A rig on a guarded device."""
    allow_lazy = more.pop("allow_lazy", False)
    with (
        opened_image(image) as fd,
        closing(ServerThread(image, allow_lazy=allow_lazy, **more)) as server,
        server.connected() as connection,
    ):
        rig = IommuRig(memory, connection, Disk(fd))
        with closing(rig.front):
            yield server, rig


def read(rig: Rig, image: Path, sector: int, length: int = 4096) -> None:
    status, data, _ = rig.do(IN, sector, into=length)
    assert status == OK and data == image.read_bytes()[sector * SECTOR : sector * SECTOR + length]


def test_only_what_is_mapped_is_open_and_nothing_afterwards(image: Path, memory: PrivateMemory) -> None:
    with served(image, memory) as (server, rig):
        read(rig, image, 5)
        assert rig.do(OUT, 16, b"\x77" * 8192)[0] == OK
        assert image.read_bytes()[8192 : 8192 + 8192] == b"\x77" * 8192
        guard = server.guard
        window = guard._window
        assert window is not None
        lent = set(guard.grants.pages)
        assert 3 < len(lent) < 20
        for page in range(MEMORY // PAGE):
            assert window.answers(page * PAGE) == (page in lent)
        data = {page for page, access in rig.iommu.asked if access == VHOST_ACCESS_RO}
        rig.iommu.take_back(0, MEMORY)
        assert not guard.grants.pages and not window.answers(0, MEMORY // PAGE)
        read(rig, image, 40, 1 << 16)
        assert data and server.counts.refused == 0
        server.guard.count()
        assert server.counts.requests == 3 and server.counts.violations == 0


def test_read_only_is_read_only(image: Path, memory: PrivateMemory) -> None:
    with served(image, memory) as (server, rig):
        assert rig.do(OUT, 0, b"\x11" * 4096)[0] == OK
        guard = server.guard
        only_read = [page for page, access in rig.iommu.asked if access == VHOST_ACCESS_RO]
        written = [page for page, access in rig.iommu.asked if access == VHOST_ACCESS_RW]
        assert only_read and written
        entries = guard.grants.entries
        assert {page for page, entry in entries.items() if not entry & WRITABLE} == set(only_read) - set(written)
        assert any(not lent.writable for lent in guard.grants.pages.values())


def test_all_pages_of_a_request_are_asked_for_at_once(image: Path, memory: PrivateMemory) -> None:
    with served(image, memory) as (_, rig):
        read(rig, image, 0, 512)
        before = len(rig.iommu.asked)
        rig.iommu.hold = before + 64  # nothing is answered before all 64 pages were asked for
        posted = rig.post(IN, 0, into=64 * PAGE)
        rig.serve()
        assert posted.status == OK and posted.data == image.read_bytes()[: 64 * PAGE]


def test_a_request_fits_the_shortest_ring(image: Path, memory: PrivateMemory) -> None:
    with served(image, memory) as (_, rig):
        assert rig.front.config()["seg_max"] + 2 == rig.rings[0].size == 128


def handed_back(rig: IommuRig) -> bool:
    """Does the used ring say more than the driver has seen?"""
    return int.from_bytes(rig.view.read(rig.rings[0].used + 2, 2), "little") != rig.drivers[0]._used


DEATHS = 20
WAYS: tuple[Callable[[IommuRig, int], bool], ...] = (
    lambda rig, before: len(rig.iommu.asked) > before,  # it waits for pages that it asked for
    lambda rig, before: True,  # it was kicked
    lambda rig, before: handed_back(rig),  # it hands back what it has done
)
"""What is waited for before the process is killed."""


def test_a_device_that_is_killed_again_and_again(image: Path, memory: PrivateMemory) -> None:
    """Twenty times with requests under way, and once the connection ends with requests under way, too: each is done,
    and what it read or wrote is right."""
    content, blocks = bytearray(image.read_bytes()), np.random.default_rng(4)
    with opened_image(image) as fd, closing(ServerThread(image, allow_lazy=False)) as server, ExitStack() as opened:
        rig = IommuRig(memory, opened.enter_context(server.connected()), Disk(fd))
        opened.callback(lambda: rig.front.close())
        for death in range(DEATHS):
            before, way = len(rig.iommu.asked), WAYS[death % len(WAYS)]
            rig.iommu.hold = before + 1000 if way is WAYS[0] else 1
            places = blocks.permutation(len(content) // PAGE)[:60] * PAGE
            reads = {at: rig.post(IN, at // SECTOR, into=PAGE) for at in places[:30].tolist()}
            written = {at: blocks.bytes(PAGE) for at in places[30:].tolist()}
            writes = [rig.post(OUT, at // SECTOR, data) for at, data in written.items()]
            rig.drivers[0].publish()
            rig.queue.kick()
            assert in_time(lambda: server.guard.process.host is not None and way(rig, before))  # noqa: B023
            process, restarts = server.guard.process.host, server.counts.device_restarts
            assert process is not None
            rig.iommu.hold = 1
            os.kill(process.pid, signal.SIGKILL)
            if death == DEATHS // 2:
                opened.close()
                rig.connect(opened.enter_context(server.connected()))
                opened.callback(lambda: rig.front.close())
            else:
                assert in_time(lambda: server.counts.device_restarts == restarts + 1)  # noqa: B023
            assert len(rig.serve()[1]) == len(places)
            assert {post.status for post in (*reads.values(), *writes)} == {OK}
            assert all(post.data == content[at : at + PAGE] for at, post in reads.items())
            for at, data in written.items():
                content[at : at + PAGE] = data
            assert image.read_bytes() == content
    assert server.counts.violations == 0 and server.said == []


def test_close_or_die(image: Path, memory: PrivateMemory) -> None:
    with served(image, memory, program=stubborn_device.block_device) as (server, rig):
        read(rig, image, 0)
        first = server.guard.process.host
        rig.iommu.take_back(0, MEMORY)
        assert first is not None and first.dead
        assert not server.guard.grants.pages
        assert server.said == ["the device's process did not close a page in time, and was killed"]
        server.guard.count()
        assert server.counts.violations == 1 and server.counts.device_restarts == 1
        read(rig, image, 1)


def test_a_guest_that_passes_through_is_refused(image: Path, memory: PrivateMemory) -> None:
    with served(image, memory) as (server, rig):
        read(rig, image, 0)
        rig.iommu.mapped = lambda io_page: io_page  # before: the device asks for its ring again at once
        rig.iommu.take_back(0, MEMORY)
        rig.post(IN, 0, into=512)
        rig.drivers[0].publish()
        rig.queue.kick()
        assert in_time(lambda: any("iommu.passthrough=0" in said for said in server.said))
        assert not server.guard.grants.pages


@pytest.mark.parametrize("allowed", [False, True])
def test_a_guest_that_unmaps_late_is_refused_unless_allowed(image: Path, memory: PrivateMemory, allowed: bool) -> None:
    with served(image, memory, allow_lazy=allowed) as (server, rig):
        read(rig, image, 0)
        rig.iommu.take_back(0, WHOLE)
        assert any("iommu.strict=1" in said for said in server.said)
        if allowed:
            read(rig, image, 3)
            return
        rig.post(IN, 0, into=512)
        rig.drivers[0].publish()
        rig.queue.kick()
        assert in_time(lambda: any("waits for a reset" in trouble for trouble in server.counts.trouble))
        assert not server.guard.grants.pages


@pytest.mark.parametrize("leaking", [False, True])
def test_closed_pages_do_not_answer_and_open_ones_would_be_seen(
    image: Path, memory: PrivateMemory, leaking: bool
) -> None:
    with served(image, memory, probe=True) as (server, rig):
        read(rig, image, 0)
        guard = server.guard
        if leaking:  # behind the ledger's back
            assert guard._window is not None
            for page in range(MEMORY // PAGE // 2):
                guard._window.open(page * PAGE, False)

        def enough() -> bool:
            guard.count()
            return server.counts.violations > 0 if leaking else server.counts.probed > 20_000

        assert in_time(enough)
        assert bool(server.counts.violations) == leaking


def test_a_front_end_that_went_away_is_no_fault_of_its() -> None:
    """The channel for questions ends a moment before the connection does."""
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        questions = Questions(ours)
        questions.put([(7, True)])
        assert questions.answers() is None


def test_more_questions_than_a_socket_takes_are_asked_as_it_is_read() -> None:
    """The front end answers each before it reads the next; a full socket ended the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        questions = Questions(ours)
        pages = [(page, bool(page % 3)) for page in range(5000)]
        for first in range(0, len(pages), 250):
            questions.put(pages[first : first + 250])
        answered = []
        with theirs.makefile("rb") as heard:
            for page, write in pages:
                question = heard.read(abi.HEADER.size + abi.IOTLB.size)
                iova, _, _, access, _ = abi.IOTLB.unpack(question[abi.HEADER.size :])
                assert (iova, access) == (page * PAGE, abi.VHOST_ACCESS_RW if write else abi.VHOST_ACCESS_RO)
                theirs.sendall(
                    abi.HEADER.pack(BackRequest.IOTLB_MSG, abi.VERSION | abi.REPLY, abi.U64.size) + abi.U64.pack(0)
                )
                answered += questions.answers() or []
        assert answered == pages


def test_descriptors_that_a_device_sends_are_not_kept() -> None:
    """Of its records none has any: a device that sends them with each would fill the warden's table of files."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = descriptors(sweep=True)
        wire.send(theirs, wire.pack(WireKind.MISS, 0, [(7, 0)]), (theirs.fileno(),))
        with pytest.raises(Refused, match="1 descriptors"):
            wire.receive(ours, wire.DEVICES)
        assert descriptors(sweep=True) == before
        wire.send(theirs, wire.pack(WireKind.START, 0), (theirs.fileno(),) * wire.FDS_MAX)
        record = wire.receive(ours, wire.WARDENS)
        assert record is not None and len(record.fds) == wire.FDS_MAX
        for fd in record.fds:
            os.close(fd)


def test_an_answer_that_nobody_waits_for_answers_no_later_question() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        questions = Questions(ours)
        questions.put([(7, True)])
        questions.forget()  # the device died, and its successor asks for the same page
        questions.put([(7, False)])
        reply = abi.HEADER.pack(BackRequest.IOTLB_MSG, abi.VERSION | abi.REPLY, abi.U64.size) + abi.U64.pack(0)
        theirs.sendall(2 * reply)
        assert questions.answers() == [(NO_PAGE, False), (7, False)]
