"""Rings that break the rules: the device stops, says why, and nothing has changed."""

import os
import struct
from collections.abc import Callable

import pytest

from pagewarden.abi import virtio
from pagewarden.abi.virtio import VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.vocab import PAGE_SIZE
from virtio_kit import (
    DEFAULT,
    EVENT,
    IN,
    OK,
    OUT,
    V1,
    FakeView,
    Posted,
    Rig,
    image_disk,
    image_file,
    plain_rig,
    request,
)

image, disk, rig = pytest.fixture(image_file), pytest.fixture(image_disk), pytest.fixture(plain_rig)
Next, Write, Indirect = VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_F_INDIRECT
CUTS = (512,)
"""A read of 512 bytes becomes: header, data, status."""


def poke(rig: Rig, index: int, **fields: int) -> None:
    """Change fields of a descriptor in the table."""
    at = rig.rings[0].desc + 16 * index
    addr, length, flags, after = struct.unpack("<QIHH", rig.view.read(at, 16))
    old = {"addr": addr, "len": length, "flags": flags, "next": after} | fields
    rig.view.write(at, struct.pack("<QIHH", *old.values()))


def table(rig: Rig, post: Posted, *entries: tuple[int, int, int, int], length: int = 0) -> None:
    """Make the chain one indirect descriptor with this table."""
    place = rig.arena.take(max(16 * len(entries), length), 16)
    rig.view.write(place, b"".join(struct.pack("<QIHH", *entry) for entry in entries))
    poke(rig, post.head, addr=place, len=length or 16 * len(entries), flags=Indirect)


def readable(rig: Rig, first: int, last: int) -> None:
    poke(rig, first, flags=Next)
    poke(rig, last, flags=0)


def avail(rig: Rig, slot: int, head: int) -> None:
    rig.view.write(rig.rings[0].avail + 4 + 2 * slot, head.to_bytes(2, "little"))


def a(rig: Rig) -> int:
    """A gpa that is good for 4 KiB."""
    return rig.arena.take(PAGE_SIZE)


BAD: dict[str, tuple[str, Callable[[Rig, Posted], object]]] = {
    "loop to itself": ("second time", lambda r, p: poke(r, p.head, next=p.head)),
    "loop of two": ("second time", lambda r, p: poke(r, p.head + 1, next=p.head)),
    "shared with the chain before": ("second time", lambda r, p: poke(r, p.head, next=1)),
    "next out of range": ("goes on at descriptor 16", lambda r, p: poke(r, p.head, next=16)),
    "next far out of range": ("goes on at descriptor 65535", lambda r, p: poke(r, p.head + 1, next=0xFFFF)),
    "beyond the memory": ("beyond the memory", lambda r, p: poke(r, p.head + 1, addr=r.view.size - 511)),
    "at the end of the address space": (
        "gpa 0xffffffffffffffff reaches",
        lambda r, p: poke(r, p.head + 1, addr=(1 << 64) - 1),
    ),
    "address wraps": ("beyond the memory", lambda r, p: poke(r, p.head + 1, addr=(1 << 64) - 512)),
    "sign bit": ("gpa 0x8000000000000000 reaches beyond the memory", lambda r, p: poke(r, p.head + 1, addr=1 << 63)),
    "zero length above": ("zero length at gpa 0x8", lambda r, p: poke(r, p.head + 1, addr=1 << 63, len=0)),
    "zero length": ("zero length", lambda r, p: poke(r, p.head + 1, len=0)),
    "header of zero length": ("zero length", lambda r, p: poke(r, p.head, len=0)),
    "absurd length": ("beyond the memory", lambda r, p: poke(r, p.head + 1, len=0xFFFFFFFF)),
    "absurd length that fits": (
        "more than the device takes",
        lambda r, p: poke(r, p.head + 1, addr=0, len=(32 << 20) + 1),
    ),
    "status readable": ("follows a device-writable", lambda r, p: poke(r, p.head + 2, flags=0)),
    "nothing writable": ("no writable byte", lambda r, p: readable(r, p.head + 1, p.head + 2)),
    "status missing": ("no writable byte", lambda r, p: poke(r, p.head, flags=0)),
    "readable after writable": (
        "follows a device-writable",
        lambda r, p: table(
            r, p, (a(r), 16, Next, 1), (a(r), 1, Write | Next, 2), (a(r), 512, Next, 3), (a(r), 1, Write, 0)
        ),
    ),
    "all writable": ("header lacks 16", lambda r, p: poke(r, p.head, flags=Next | Write, next=p.head + 1)),
    "short header": ("header lacks 1 ", lambda r, p: poke(r, p.head, len=15)),
    "indirect and next": ("has a next one", lambda r, p: poke(r, p.head, flags=Indirect | Next)),
    "indirect of odd size": ("not a positive multiple", lambda r, p: table(r, p, (a(r), 16, 0, 0), length=17)),
    "indirect of 15 bytes": ("not a positive multiple", lambda r, p: table(r, p, (a(r), 16, 0, 0), length=15)),
    "indirect of no size": ("zero length", lambda r, p: poke(r, p.head, flags=Indirect, len=0)),
    "indirect too long": ("17 descriptors", lambda r, p: table(r, p, (a(r), 16, 0, 0), length=16 * 17)),
    "indirect of absurd size": ("descriptors", lambda r, p: poke(r, p.head, flags=Indirect, addr=0, len=1 << 20)),
    "indirect beyond the memory": (
        "beyond",
        lambda r, p: poke(r, p.head, flags=Indirect, addr=r.view.size - 16, len=32),
    ),
    "indirect in indirect": ("indirect itself", lambda r, p: table(r, p, (a(r), 16, Indirect, 0))),
    "second entry indirect": (
        "indirect itself",
        lambda r, p: table(r, p, (a(r), 16, Next, 1), (a(r), 16, Indirect, 0)),
    ),
    "indirect loop": ("second time", lambda r, p: table(r, p, (a(r), 16, Next, 1), (a(r), 16, Next, 0))),
    "indirect next out of range": ("descriptor 1,", lambda r, p: table(r, p, (a(r), 16, Next, 1))),
    "indirect entry of no length": ("zero length", lambda r, p: table(r, p, (a(r), 16, Next, 1), (a(r), 0, Write, 0))),
    "indirect entry beyond": ("beyond", lambda r, p: table(r, p, (a(r), 16, Next, 1), (1 << 50, 1, Write, 0))),
    "indirect without status": ("no writable byte", lambda r, p: table(r, p, (a(r), 16, 0, 0))),
    "head out of range": ("names descriptor 16", lambda r, p: avail(r, 1, 16)),
    "head far out of range": ("names descriptor 65535", lambda r, p: avail(r, 1, 0xFFFF)),
    "same head again": ("second time", lambda r, p: avail(r, 1, 0)),
}


def state(rig: Rig) -> tuple[bytes, bytes]:
    view = rig.view
    assert isinstance(view, FakeView)
    return view.bytes.tobytes(), os.pread(rig.disk.fd, 1 << 20, 0)


def refused(rig: Rig, what: str) -> DeviceNeedsReset:
    """Process the batch: it is refused with these words, nothing has changed, and the device stays stopped."""
    rig.drivers[0].publish()
    before = state(rig)
    with pytest.raises(DeviceNeedsReset, match=what) as caught:
        rig.device.process(0)
    assert state(rig) == before and rig.drivers[0].reap() == []
    assert rig.device.status & virtio.DEVICE_NEEDS_RESET
    with pytest.raises(DeviceNeedsReset, match=what):
        rig.device.process(0)
    assert state(rig) == before
    return caught.value


@pytest.mark.parametrize("name", BAD)
def test_a_bad_chain_stops_the_device_and_its_batch_leaves_no_trace(image: int, name: str) -> None:
    rig = Rig(FakeView(40 << 20 if "that fits" in name else 1 << 20), Disk(image))
    rig.post(OUT, 0, os.urandom(512))
    bad = rig.post(IN, 1, into=512, cuts=CUTS)
    good = rig.post(IN, 2, into=512)
    what, spoil = BAD[name]
    spoil(rig, bad)
    error = refused(rig, what)
    heads = {"head out of range": 16, "head far out of range": 0xFFFF, "same head again": 0}
    assert error.queue == 0 and error.head == heads.get(name, bad.head)
    assert good.data == b"\xee" * 512


@pytest.mark.parametrize("name", BAD)
def test_after_a_reset_the_device_serves_again(image: int, name: str) -> None:
    rig = Rig(FakeView(40 << 20 if "that fits" in name else 1 << 20), Disk(image))
    rig.post(OUT, 0, os.urandom(512))
    BAD[name][1](rig, rig.post(IN, 1, into=512, cuts=CUTS))
    refused(rig, "reset the device")
    again = Rig(rig.view, rig.disk)
    assert again.do(IN, 1, into=512)[0] == OK


@pytest.mark.parametrize("features", [V1, DEFAULT & ~(1 << virtio.VIRTIO_F_INDIRECT_DESC)])
def test_indirect_must_be_negotiated(disk: Disk, features: int) -> None:
    rig = Rig(FakeView(1 << 20), disk, features | EVENT)
    rig.post(IN, 0, into=512, indirect=True)
    refused(rig, "not negotiated")


@pytest.mark.parametrize("jump", [17, 100, 0x7FFF, 0xFFFF])
def test_the_avail_index_cannot_run_ahead(rig: Rig, jump: int) -> None:
    rig.post(IN, 0, into=512)
    rig.drivers[0].publish()
    rig.view.write(rig.rings[0].avail + 2, jump.to_bytes(2, "little"))
    before = state(rig)
    with pytest.raises(DeviceNeedsReset, match="avail index jumped"):
        rig.device.process(0)
    assert state(rig) == before


def paged(rig: Rig, private: str) -> int:
    """A write and a read, each part on a page of its own; the page that becomes private."""
    pages = {
        name: rig.arena.take(PAGE_SIZE, PAGE_SIZE)
        for name in ("header", "data out", "status", "read header", "data in", "second page", "read status", "table")
    }
    rig.view.write(pages["header"], request(OUT, 1))
    rig.view.write(pages["read header"], request(IN, 0))
    driver = rig.drivers[0]
    driver.add_chain([(pages["header"], 16), (pages["data out"], 512)], [(pages["status"], 1)])
    half = pages["second page"] - 512
    driver.add_chain(
        [(pages["read header"], 16)], [(pages["data in"], 512), (half, 1024), (pages["read status"], 1)], pages["table"]
    )
    return pages[private]


@pytest.mark.parametrize(
    "part", ["header", "data out", "status", "read header", "data in", "second page", "read status", "table"]
)
def test_a_private_page_is_found_before_anything_moves(disk: Disk, part: str) -> None:
    view = FakeView(1 << 20)
    rig = Rig(view, disk)
    rig.arena = type(rig.arena)(rig.start, gap=2 * PAGE_SIZE)
    gpa = paged(rig, part)
    view.private.add(gpa // PAGE_SIZE)
    error = refused(rig, f"gpa {gpa:#x} is private")
    assert error.head == (0 if part in ("header", "data out", "status") else 3)


def test_a_private_page_is_found_among_many(disk: Disk) -> None:
    """Pages 256 apart, in the order in which one could be taken for the other."""
    view = FakeView(4 << 20)
    rig = Rig(view, disk)
    header, status = rig.arena.take(16), rig.arena.take(1)
    view.write(header, request(IN, 0))
    for page in (20, 276, 532):
        rig.drivers[0].add_chain([(header, 16)], [(page * PAGE_SIZE, 512), (status, 1)])
    view.private.add(532)
    assert refused(rig, "gpa 0x214000 is private").head == 6


@pytest.mark.parametrize("part", ["desc", "avail", "used"])
def test_a_private_ring_stops_the_device(image: int, part: str) -> None:
    view = FakeView(1 << 20)
    rig = Rig(view, Disk(image), size=1024)
    rig.post(OUT, 0, bytes(512))
    rig.drivers[0].publish()
    view.private.add(getattr(rig.rings[0], part) // PAGE_SIZE)
    before = os.pread(image, 1 << 20, 0)
    with pytest.raises(DeviceNeedsReset, match="is private") as caught:
        rig.device.process(0)
    assert caught.value.head is None and os.pread(image, 1 << 20, 0) == before


def test_a_device_does_not_resume_on_a_private_ring(rig: Rig) -> None:
    assert isinstance(rig.view, FakeView)
    rig.view.private.add(rig.rings[0].used // PAGE_SIZE)
    with pytest.raises(DeviceNeedsReset, match="is private"):
        BlockDevice(rig.view, rig.disk).resume(DEFAULT, rig.rings)


class Closing(FakeView):
    """Data turns private between the check and the transfer."""

    closing: int | None = None

    def pread_from(self, fd: int, file_offset: int, segments: object) -> int:
        if self.closing is not None:
            self.private.add(self.closing)
        return super().pread_from(fd, file_offset, segments)  # type: ignore[arg-type]


def test_a_page_closed_behind_the_check_stops_the_device_too(disk: Disk) -> None:
    view = Closing(1 << 20)
    rig = Rig(view, disk)
    post = rig.post(IN, 0, into=512)
    rig.drivers[0].publish()
    view.closing = rig.start // PAGE_SIZE
    with pytest.raises(DeviceNeedsReset, match="is private") as caught:
        rig.device.process(0)
    view.private.clear()
    assert caught.value.head == post.head and post.status == 0xEE and rig.drivers[0].reap() == []


def test_batches_before_the_bad_one_are_complete(image: int) -> None:
    """The first batch takes 256 chains; the bad one is the 300th."""
    rig = Rig(FakeView(2 << 20), Disk(image), size=1024)
    posts = [rig.post(IN, n % 128, into=512) for n in range(400)]
    poke(rig, posts[300].head, addr=1 << 40)
    rig.drivers[0].publish()
    with pytest.raises(DeviceNeedsReset) as caught:
        rig.device.process(0)
    assert caught.value.head == posts[300].head
    assert [used.head for used in rig.drivers[0].reap()] == [post.head for post in posts[:256]]
    assert [post.status for post in posts] == [OK] * 256 + [0xEE] * 144


@pytest.mark.parametrize("before", [0, 1])
def test_an_indirect_chain_may_be_as_long_as_the_queue(rig: Rig, image: int, before: int) -> None:
    """Direct descriptors before the table count, too; one more is refused."""
    post = rig.post(IN, 2, into=512)
    ring, view, longest = rig.rings[0], rig.view, rig.device.queue_size
    header, data = ((lambda at: struct.unpack("<QIHH", view.read(at, 16)))(ring.desc + 16 * n) for n in range(2))
    entries = [(data[0] + n, 1) for n in range(512)]
    cut = longest - before - (0 if before else 1)
    parts = [*entries[: cut - 1], (data[0] + cut - 1, 513 - (cut - 1))]
    rows = [(*part, Write | Next * (n + 1 < cut), n + 1 + (1 - before)) for n, part in enumerate(parts)]
    rows = [(row[0], row[1], row[2], row[3] if row[2] & Next else 0) for row in rows]
    if not before:
        rows.insert(0, (header[0], 16, Next, 1))
    assert len(rows) == longest - before
    place = rig.arena.take(16 * (longest + 1), 16)
    view.write(place, b"".join(struct.pack("<QIHH", *row) for row in rows))
    poke(rig, post.head + before, addr=place, len=16 * len(rows), flags=Indirect)
    rig.serve()
    assert (post.status, post.data) == (OK, os.pread(image, 512, 1024))
    again = rig.post(IN, 2, into=512)
    poke(rig, again.head + before, addr=place, len=16 * (len(rows) + 1), flags=Indirect)
    refused(rig, f"the chain has {longest + 1} descriptors")
