"""The description: what it refuses, where it puts things, and the words that the guest checks with."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_kit import SECTORS, random_disk, random_program
from pagewarden.abi.virtio_blk import SECTOR
from pagewarden.guest import pattern
from pagewarden.guest.hypercalls import Number, decode
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import BATCH, program
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused, UserMistake

NO_DISK = np.zeros(64, dtype=np.uint64)


@pytest.mark.parametrize(
    ("design", "sector", "length", "batch", "why"),
    [
        ("teleport", [0], [512], 1, "no design"),
        ("window", [0, 1], [512], 1, "one length"),
        ("window", [], [], 1, "at least 1"),
        ("window", [0], [512], 0, "at least 1"),
        ("window", [0], [0], 1, "multiple of 512"),
        ("window", [0], [513], 1, "multiple of 512"),
        ("window", [0], [1 << 31], 1, "under 2 GiB"),
        ("window", [64], [512], 1, "outside the disk"),
        ("window", [60], [4096], 1, "outside the disk"),
        ("window", [-1], [512], 1, "outside the disk"),
        ("window", [(1 << 63) - 1], [512], 1, "outside the disk"),
        ("window", [0], [512], 11_000, "queue"),
    ],
)
def test_nonsense_is_the_users_mistake(design: str, sector: list[int], length: list[int], batch: int, why: str) -> None:
    with pytest.raises(UserMistake, match=why):
        program(design, [0] * len(sector), sector, length, NO_DISK.copy(), batch=batch)


@given(st.data(), st.integers(1, 30), st.integers(1, 8), st.sampled_from(sorted(BATCH)))
def test_words_are_what_a_byte_by_byte_disk_says(data: st.DataObject, count: int, batch: int, design: str) -> None:
    disk = random_disk(count)
    before = pattern.sectors(bytes(disk))
    described = random_program(design, disk, data.draw(st.integers(0, 1 << 32)), count, batch)
    for record in described.requests:
        at, length = int(record["sector"]) * SECTOR, int(record["length"])
        if record["write"]:
            disk[at : at + length] = pattern.fill(int(record["word"]), length)
        else:
            assert pattern.digest(bytes(disk[at : at + length])) == record["word"]
    if described.requests["write"].any():
        assert (pattern.sectors(bytes(disk)) != before).any()


@given(st.integers(1, 40), st.integers(1, 12), st.sampled_from(sorted(BATCH)), st.integers(0, 5))
def test_nothing_overlaps(count: int, batch: int, design: str, base_page: int) -> None:
    described = random_program(design, random_disk(1), count, count, batch, base_page * PAGE_SIZE)
    at = described.layout
    pages = at.data_pages
    iommu, copies = design == "iommu", design in ("dma-buffer", "bounce")
    parts = [
        (at.base, len(assemble(described).content)),
        (at.table, described.requests.nbytes),
        (at.shared, 16 * at.queue),
        (at.avail, 6 + 2 * at.queue),
        (at.used, 6 + 8 * at.queue),
        (at.headers, 16 * batch),
        (at.status, batch),
        (at.iopt, 8 * pages * iommu),
        (at.recent, (8 + 8 * at.recent_entries) * iommu),
        (at.pool, pages * PAGE_SIZE * copies),
        (at.data, pages * PAGE_SIZE),
        (at.end, 0),
    ]
    for (start, length), (following, _) in itertools.pairwise(parts):
        assert start + length <= following
    assert at.shared % PAGE_SIZE == at.used % PAGE_SIZE == at.data % PAGE_SIZE == 0
    assert at.queue >= 3 * batch and at.queue & at.queue - 1 == 0
    assert (described.requests["page"] + described.requests["pages"]).max() <= pages


def test_the_code_does_not_grow_with_the_requests() -> None:
    few, many = (random_program("window", random_disk(1), requests=n, batch=8) for n in (10, 5000))
    assert len(assemble(few).content) == len(assemble(many).content) < PAGE_SIZE


def test_a_digest_notices_a_bit_and_an_order() -> None:
    data = pattern.fill(77, 512)
    assert pattern.digest(data) != pattern.digest(bytes([data[0] ^ 1]) + data[1:])
    assert pattern.digest(data) != pattern.digest(data[8:16] + data[:8] + data[16:])
    assert pattern.digest(data) == int(pattern.sectors(data)[0])


def test_steps_are_found_by_their_address() -> None:
    code = assemble(random_program("window", random_disk(1)))
    assert [code.step_at(code.marks[name]) for name in ("fill", "wait", "check")] == ["fill", "wait", "check"]
    assert code.step_at(code.base + len(code.content)) == code.step_at(code.base - 1) == ""


WORD = st.one_of(st.integers(0, 20), st.integers(0, (1 << 64) - 1))


@given(WORD, WORD, WORD, WORD, st.integers(1, SECTORS))
def test_a_hypercall_is_refused_or_lies_in_the_memory(number: int, a: int, b: int, c: int, pages: int) -> None:
    try:
        call = decode(number, (a, b, c), pages)
    except Refused as refusal:
        assert number not in set(Number) or number in (Number.SHARE, Number.UNSHARE)
        assert refusal.errno
        return
    assert call.number == number and call.values == (a, b, c)
    if number in (Number.SHARE, Number.UNSHARE):
        assert call.pages == PageRange(a, a + b).checked(pages) and b > 0
    else:
        assert call.pages.count == 0


@pytest.mark.parametrize(("gfn", "count"), [(0, 0), (0, 17), (16, 1), (15, 2), (1 << 63, 1), (1, (1 << 64) - 1)])
def test_ranges_at_the_edge_are_refused(gfn: int, count: int) -> None:
    with pytest.raises(Refused):
        decode(Number.SHARE, (gfn, count, 0), 16)
    assert decode(Number.UNSHARE, (15, 1, 0), 16).pages == PageRange(15, 16)
