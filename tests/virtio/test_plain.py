"""A device in Python that answers chain by chain: what reaches it, what it writes, and what it never sees."""

import pytest

from pagewarden.abi import virtio
from pagewarden.virtio.driver import Driver, Used
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.requests import REQUEST_MAX
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.transport import PlainDevice
from pagewarden.vocab import PAGE_SIZE
from virtio_kit import EVENT, INDIRECT, V1, FakeView, VectoredFake

BUFFERS = 4 * PAGE_SIZE


class Echo(PlainDevice):
    """Writes what it was given, turned round, and more of it than that where it is to."""

    too_much = 0

    def answer(self, queue: int, given: bytes, room: int) -> bytes:
        return given[::-1][:room] + bytes(self.too_much)


@pytest.fixture(params=[FakeView, VectoredFake])
def view(request: pytest.FixtureRequest) -> FakeView:
    made: FakeView = request.param(64 * PAGE_SIZE)
    made.write(BUFFERS, bytes(range(200)))
    return made


def running(view: FakeView, features: int = V1 | INDIRECT | EVENT) -> tuple[Echo, Driver]:
    ring, device = Ring.placed(16, PAGE_SIZE), Echo(view)
    driver = Driver(view, ring, bool(features & EVENT))
    device.resume(features, {0: ring})
    return device, driver


@pytest.mark.parametrize("features", [V1, V1 | EVENT, V1 | INDIRECT | EVENT])
def test_a_chain_is_answered_however_it_is_cut(view: FakeView, features: int) -> None:
    device, driver = running(view, features)
    table = 2 * PAGE_SIZE if features & INDIRECT else None
    out, into = BUFFERS + PAGE_SIZE, BUFFERS + 3 * PAGE_SIZE
    whole = driver.add_chain([(BUFFERS, 100)], [(out, 100)])
    cut = driver.add_chain([(BUFFERS, 1), (BUFFERS + 1, 99)], [(into, 30), (into + 5000, 200)], table)
    driver.ask_interrupt(2)
    driver.publish()
    assert device.process(0) == (2, True, False)
    assert driver.reap() == [Used(whole, 100), Used(cut, 100)]
    answer = bytes(range(100))[::-1]
    assert view.read(out, 101) == answer + b"\0"
    assert view.read(into, 31) == answer[:30] + b"\0" and view.read(into + 5000, 71) == answer[30:] + b"\0"
    assert device.carried == 400


def test_nothing_to_read_and_nothing_to_write(view: FakeView) -> None:
    device, driver = running(view)
    heads = driver.add_chain([], [(BUFFERS, 10)]), driver.add_chain([(BUFFERS, 10)], [])
    driver.publish()
    assert device.process(0).completed == 2
    assert driver.reap() == [Used(head, 0) for head in heads]


def test_a_ring_goes_on_where_another_device_stopped(view: FakeView) -> None:
    device, driver = running(view)
    for n in range(3):
        driver.add_chain([(BUFFERS + n, 1)], [(BUFFERS + PAGE_SIZE + n, 1)])
        driver.publish()
        assert device.process(0).completed == len(driver.reap()) == 1
        device = Echo(view)
        device.resume(V1 | INDIRECT | EVENT, {0: driver.ring})
    assert view.read(BUFFERS + PAGE_SIZE, 3) == bytes(range(3))


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([(BUFFERS, 8, 2), (BUFFERS, 8, 0)], "follows a device-writable one"),
        ([(0, 64 * PAGE_SIZE, 0)] * (REQUEST_MAX // (64 * PAGE_SIZE) // 16 + 1), "more than the device takes"),
        ([(64 * PAGE_SIZE, 1, 2)], "beyond the memory"),
        ([(BUFFERS, 0, 2)], "zero length"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_before_anything_is_answered(
    view: FakeView, parts: list[tuple[int, int, int]], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagewarden.virtio.queue.REQUEST_MAX", REQUEST_MAX // 16)
    device, driver = running(view)
    driver.add_chain([(BUFFERS, 8)], [(BUFFERS + PAGE_SIZE, 8)])
    table = 2 * PAGE_SIZE
    head = driver.add_chain([(BUFFERS, 8)] * len(parts), [], table)
    for n, (gpa, length, flags) in enumerate(parts):
        more = virtio.VIRTQ_DESC_F_NEXT * (n + 1 < len(parts))
        entry = gpa.to_bytes(8, "little") + length.to_bytes(4, "little") + (flags | more).to_bytes(2, "little")
        view.write(table + 16 * n, entry + (n + 1).to_bytes(2, "little"))
    driver.publish()
    with pytest.raises(DeviceNeedsReset, match=why) as refused:
        device.process(0)
    assert refused.value.head == head
    assert not driver.reap() and view.read(BUFFERS + PAGE_SIZE, 8) == bytes(8)


def test_a_private_page_ends_it(view: FakeView) -> None:
    device, driver = running(view)
    driver.add_chain([(BUFFERS, 8)], [(BUFFERS + PAGE_SIZE, 8)])
    view.private.add(BUFFERS // PAGE_SIZE + 1)
    driver.publish()
    with pytest.raises(DeviceNeedsReset, match="is private"):
        device.process(0)
    assert not driver.reap() and device.status & virtio.DEVICE_NEEDS_RESET


def test_a_device_that_answers_too_much_is_told(view: FakeView) -> None:
    device, driver = running(view)
    device.too_much = 9
    driver.add_chain([], [(BUFFERS + PAGE_SIZE, 8)])
    driver.publish()
    with pytest.raises(ValueError, match="9 bytes, where there is room for 8"):
        device.process(0)
    assert not driver.reap() and view.read(BUFFERS + PAGE_SIZE, 9) == bytes(9)
