"""The driver against a hostile device: it believes nothing of the used ring that it did not give."""

import struct

import pytest

from pagewarden.virtio.driver import Driver
from pagewarden.virtio.faults import UsedRingBroken
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE
from virtio_kit import FakeView

RING = Ring.placed(8, 0)


def hand_back(view: FakeView, index: int, *elements: tuple[int, int]) -> None:
    for n, element in enumerate(elements):
        view.write(RING.used + 4 + 8 * n, struct.pack("<II", *element))
    view.write(RING.used + 2, index.to_bytes(2, "little"))


@pytest.mark.parametrize(
    ("index", "elements", "what"),
    [
        (1, [(5, 0)], "names head 5"),
        (1, [(8, 0)], "names head 8"),
        (1, [(0xFFFFFFFF, 0)], "names head 4294967295"),
        (2, [(0, 1), (0, 1)], "names head 0"),
        (1, [(0, 514)], "514 bytes written to head 0, which has room for 513"),
        (1, [(0, 0xFFFFFFFF)], "4294967295 bytes"),
        (3, [(0, 1), (3, 1), (6, 1)], "names head 6"),
        (0xFFFF, [(0, 1), (3, 1), (1, 1)], "names head 1"),
    ],
)
def test_a_used_ring_that_lies_is_an_error_of_its_own(index: int, elements: list[tuple[int, int]], what: str) -> None:
    view = FakeView(16 * PAGE_SIZE)
    driver = Driver(view, RING)
    heads = [driver.add_chain([(8192, 16)], [(12288, 512), (16384, 1)]) for _ in range(2)]
    assert heads == [0, 3]
    hand_back(view, index, *elements)
    with pytest.raises(UsedRingBroken, match=what):
        driver.reap()


def test_what_was_given_comes_back_in_any_order() -> None:
    view = FakeView(16 * PAGE_SIZE)
    driver = Driver(view, RING)
    for _ in range(2):
        driver.add_chain([(8192, 16)], [(12288, 512), (16384, 1)])
    hand_back(view, 2, (3, 513), (0, 1))
    assert [(used.head, used.length) for used in driver.reap()] == [(3, 513), (0, 1)] and driver.free == 8
