"""How a driver sets a block device up, and what of it is refused."""

import struct

import pytest

from pagewarden.abi import virtio, virtio_blk
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import Refused
from virtio_kit import DEFAULT, V1, FakeView, image_disk, image_file

image, disk = pytest.fixture(image_file), pytest.fixture(image_disk)


@pytest.mark.parametrize("size", [-1, 0, 1, 2, 3, 1025])
def test_a_queue_that_no_request_fits_is_refused(disk: Disk, size: int) -> None:
    with pytest.raises(ValueError, match="this device has 4 to 1024"):
        BlockDevice(FakeView(1 << 20), disk, queue_size=size)


def test_configuration(disk: Disk) -> None:
    device = BlockDevice(FakeView(1 << 20), disk, queues=3, queue_size=64)
    config = device.read_config(0, virtio_blk.virtio_blk_config.itemsize)
    assert struct.unpack_from("<QII", config) == (128, 1 << 19, 62)
    assert struct.unpack_from("<H", config, 34) == (3,)
    assert device.read_config(70, 10) == config[70:] + bytes(8)


def test_status_and_features_in_the_order_of_the_specification(disk: Disk) -> None:
    device = BlockDevice(FakeView(1 << 20), disk)
    ring = Ring.placed(16, 4096)
    device.write_status(virtio.ACKNOWLEDGE)
    device.write_status(virtio.ACKNOWLEDGE | virtio.DRIVER)
    device.accept(V1 | 1 << virtio.VIRTIO_F_RING_PACKED)
    device.write_status(device.status | virtio.FEATURES_OK)
    assert not device.status & virtio.FEATURES_OK
    with pytest.raises(Refused):
        device.set_queue(0, ring)
    device.accept(DEFAULT)
    device.write_status(device.status | virtio.FEATURES_OK)
    assert device.status & virtio.FEATURES_OK
    with pytest.raises(Refused):
        device.accept(V1)
    device.set_queue(0, ring)
    with pytest.raises(Refused):
        device.process(0)
    device.write_status(device.status | virtio.DRIVER_OK | virtio.DEVICE_NEEDS_RESET)
    assert device.status == 15 and device.process(0) == (0, False, False)
    device.write_status(0)
    assert device.status == device.features == 0
    with pytest.raises(Refused):
        device.process(0)


@pytest.mark.parametrize(
    "ring",
    [
        Ring(3, 0, 4096, 8192),
        Ring(0, 0, 4096, 8192),
        Ring(512, 0, 16384, 32768),
        Ring(16, 8, 4096, 8192),
        Ring(16, 0, 4097, 8192),
        Ring(16, 0, 4096, 8194),
        Ring(16, (1 << 20) - 16, 4096, 8192),
        Ring(16, 0, 4096, 1 << 20),
        Ring(16, 0, -2, 8192),
        Ring(16, 0, (1 << 20) - 36, 8192),
    ],
)
def test_a_ring_that_cannot_be_is_refused(disk: Disk, ring: Ring) -> None:
    device = BlockDevice(FakeView(1 << 20), disk)
    with pytest.raises(Refused):
        device.resume(DEFAULT, {0: ring})
