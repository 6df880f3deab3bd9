"""Guests that drive the real block device: reads and writes reach a file, and what the guest may not do stops it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_kit import random_disk, random_program, trace
from pagewarden.abi import virtio
from pagewarden.guest.hypercalls import GuestReport
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import BATCH, Program, image
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.guest.warden import Warden
from pagewarden.memory import PrivateMemory
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.queue import Processed
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import GuestStopped


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def device_for(described: Program, memory: PrivateMemory, file: int) -> BlockDevice:
    """The device with the queue that the program's layout says."""
    device = BlockDevice(memory.window, Disk(file), queue_size=1024)
    device.accept(1 << virtio.VIRTIO_F_VERSION_1)
    device.write_status(virtio.ACKNOWLEDGE | virtio.DRIVER | virtio.FEATURES_OK)
    at = described.layout
    device.set_queue(described.queue, Ring(at.queue, at.shared, at.avail, at.used))
    device.write_status(virtio.DRIVER_OK)
    return device


def run(described: Program, file: int, backing: str = "memfd") -> GuestReport:
    code = assemble(described)
    with PrivateMemory(described.layout.size, backing) as memory:
        for gpa, content in image(described, code.content):
            memory.populate(gpa, content)
        device = device_for(described, memory, file)
        warden = Warden(memory, [described], lambda queue: do(device.process(queue)))
        cpu = UnicornCpu(memory.guest_address, memory.size)
        try:
            return serve(Guest(cpu, code, warden, described.outs))
        finally:
            cpu.close()
            device.close()


def do(processed: Processed) -> None:
    assert not processed.more and not processed.want_interrupt


@pytest.mark.parametrize("design", BATCH)
def test_what_the_guest_writes_reaches_the_file_and_what_it_reads_comes_from_there(design: str, file: int) -> None:
    disk = random_disk(4)
    os.pwrite(file, disk, 0)
    described = random_program(design, disk, 4, requests=40, batch=7)
    assert run(described, file).failures == 0
    assert os.pread(file, len(disk) + 1, 0) == trace(described, disk, None).disk


def test_a_file_that_changed_behind_the_guest_is_noticed(file: int) -> None:
    disk = random_disk(4)
    described = random_program("window", disk, 4, requests=40, batch=7)
    os.pwrite(file, bytes(len(disk)), 0)
    outcome = run(described, file)
    assert 0 < outcome.failures <= int((described.requests["write"] == 0).sum())


def test_a_descriptor_beyond_the_memory_ends_the_guest_and_the_disk_is_as_before(file: int) -> None:
    disk = random_disk(4)
    os.pwrite(file, disk, 0)
    described = random_program("bounce", disk, 4, requests=1, batch=1)
    described.requests["write"], described.requests["page"] = 0, 1 << 30  # a buffer 4 TiB up
    with pytest.raises(GuestStopped, match=r"during kick") as report:
        run(described, file)
    assert isinstance(report.value.__cause__, DeviceNeedsReset)
    assert os.pread(file, len(disk), 0) == disk


def test_a_buffer_that_is_not_shared_ends_the_guest(file: int) -> None:
    """The guest's own private page in a descriptor: the device cannot reach it."""
    disk = random_disk(4)
    os.pwrite(file, disk, 0)
    described = random_program("bounce", disk, 4, requests=1, batch=1)
    described.requests["write"] = 0
    described.requests["page"] = described.layout.data_pages  # behind the pool lie the private buffers
    with pytest.raises(GuestStopped, match=r"private.*during kick"):
        run(described, file, "uffd-window")
