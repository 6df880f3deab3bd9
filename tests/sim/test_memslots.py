"""Bindings of gfns to pages of the fd."""

from errno import EEXIST, EINVAL, ENOENT, EPERM

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.law import POLICIES, Op
from pagewarden.sim import Memslots, ModelMemory
from pagewarden.vocab import Gfn, PageRange, PrivateAccess, Refused


@pytest.mark.parametrize(
    ("gfn", "pages", "errno"),
    [
        (0, PageRange(4, 4), EINVAL), (0, PageRange(60, 65), EINVAL), (-1, PageRange(40, 41), EINVAL),
        (90, PageRange(8, 12), EEXIST), (90, PageRange(15, 20), EEXIST),  # the same pages: front half, back half
        (98, PageRange(40, 44), EEXIST), (107, PageRange(40, 44), EEXIST),  # the same gfns: front half, back half
    ],
)  # fmt: skip
def test_a_refused_binding_leaves_no_trace(gfn: int, pages: PageRange, errno: int) -> None:
    slots = Memslots(64)
    slots.bind(Gfn(100), PageRange(8, 16))
    with pytest.raises(Refused) as refusal:
        slots.bind(Gfn(gfn), pages)
    assert refusal.value.errno == errno
    assert slots.page(Gfn(100)) == 8
    for missing in (99, 108, 90):
        with pytest.raises(Refused) as refusal:
            slots.page(Gfn(missing))
        assert refusal.value.errno == ENOENT


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60), st.integers(1, 8)), max_size=20))
def test_lookup_is_the_inverse_of_binding(wanted: list[tuple[int, int, int]]) -> None:
    slots, known, used = Memslots(64), dict[int, int](), set[int]()
    for gfn, first, count in wanted:
        pages = PageRange(first, first + count)
        fits = pages.stop <= 64 and not used & set(range(first, first + count))
        fits = fits and not known.keys() & set(range(gfn, gfn + count))
        try:
            slots.bind(Gfn(gfn), pages)
            assert fits
            used |= set(range(first, first + count))
            known |= {gfn + index: first + index for index in range(count)}
        except Refused:
            assert not fits
    assert {gfn: slots.page(Gfn(gfn)) for gfn in known} == known


def test_deleting_a_slot_takes_the_pages_from_the_guest_and_keeps_the_bytes() -> None:
    memory = ModelMemory(8 << 12, POLICIES["hybrid"])
    slot = memory.memslots.bind(Gfn(0), PageRange(0, 4))
    memory.private_write(0, b"kept")
    memory.delete_slot(slot)
    with pytest.raises(PrivateAccess):
        memory.private_read(0, 4)
    assert memory.contents.peek(0)[:4] == b"kept"
    for op in (Op.KVM_GET, Op.GUEST_MAP):
        memory.contents.apply(op, PageRange(0, 1))
    assert memory.private_read(0, 4) == b"kept"


def test_pkvm_refuses_to_delete_a_slot() -> None:
    memory = ModelMemory(8 << 12, POLICIES["pkvm"])
    slot = memory.memslots.bind(Gfn(0), PageRange(0, 4))
    with pytest.raises(Refused) as refusal:
        memory.delete_slot(slot)
    assert refusal.value.errno == EPERM and memory.memslots.page(Gfn(3)) == 3
