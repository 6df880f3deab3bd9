"""The contract of private memory, on every backing that this host has."""

import errno
import os
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.kernel.uffd import RWP_FEATURES, offered
from pagewarden.memory import PAGE_SIZE, BackingName, PageRange, PrivateAccess, PrivateMemory, Refused, Use
from pagewarden.memory.backings.protocol import KINDS
from pagewarden.memory.choose import BACKINGS
from pagewarden.port import HostView, Memory
from pagewarden.vocab import UserMistake
from private_kit import CONVERTING, GUARDED, PAGES, answers, made, marked, state


def test_it_is_what_the_port_asks_for(memory: PrivateMemory) -> None:
    assert isinstance(memory, Memory)
    view: HostView = memory.window
    assert view.size == memory.size == PAGES * PAGE_SIZE


def test_all_starts_private_and_only_shared_pages_answer(guarded: PrivateMemory) -> None:
    marked(guarded)
    assert answers(guarded) == state(guarded) == [False] * PAGES
    guarded.share(PageRange(2, 5))
    assert answers(guarded) == state(guarded) == [2 <= page < 5 for page in range(PAGES)]
    guarded.unshare(PageRange(3, 4))
    assert answers(guarded) == state(guarded) == [page in (2, 4) for page in range(PAGES)]


def test_the_baseline_protects_nothing() -> None:
    with made("memfd") as mem:
        marked(mem)
        assert answers(mem) == [True] * PAGES and state(mem) == [False] * PAGES


def test_contents_are_kept_through_conversions(memory: PrivateMemory) -> None:
    data = marked(memory)
    memory.share(PageRange(0, PAGES))
    assert memory.window.read(0, memory.size) == data
    memory.window.write(5 * PAGE_SIZE + 7, b"host was here")
    memory.unshare(PageRange(0, PAGES))
    expected = bytearray(data)
    expected[5 * PAGE_SIZE + 7 : 5 * PAGE_SIZE + 20] = b"host was here"
    assert memory.private_read(0, memory.size) == expected
    memory.private_write(9, b"guest")
    memory.share(PageRange(0, 1))
    assert memory.window.read(9, 5) == b"guest"


def test_holes_read_as_zero_when_shared(memory: PrivateMemory) -> None:
    memory.share(PageRange(1, 4))
    assert memory.window.read(PAGE_SIZE, 3 * PAGE_SIZE) == bytes(3 * PAGE_SIZE)


def test_a_conversion_to_the_state_that_is_there_does_nothing(memory: PrivateMemory) -> None:
    memory.share(PageRange(0, 3))
    before = memory.statistics()
    memory.share(PageRange(1, 3))
    memory.unshare(PageRange(5, 9))
    memory.share(PageRange(4, 4))
    assert memory.statistics() == before


@pytest.mark.parametrize("pages", [(-1, 1), (0, PAGES + 1), (3, 2), (PAGES + 1, PAGES + 2)])
def test_pages_outside_are_a_value_error_and_change_nothing(memory: PrivateMemory, pages: tuple[int, int]) -> None:
    memory.share(PageRange(1, 2))
    for call in (memory.share, memory.unshare, memory.punch, memory.hold):
        with pytest.raises(ValueError, match="do not lie"):
            call(PageRange(*pages))
    assert state(memory) == [page == 1 for page in range(PAGES)]


@pytest.mark.parametrize("size", [0, -PAGE_SIZE, 1, PAGE_SIZE + 1])
def test_sizes_are_whole_pages(size: int) -> None:
    with pytest.raises(ValueError, match="multiple"):
        PrivateMemory(size, "memfd")


def test_populate_is_for_private_pages(memory: PrivateMemory) -> None:
    memory.populate(PAGE_SIZE - 2, b"wide")
    assert memory.private_read(PAGE_SIZE - 2, 4) == b"wide"
    memory.share(PageRange(3, 4))
    with pytest.raises(Refused) as caught:
        memory.populate(2 * PAGE_SIZE, bytes(2 * PAGE_SIZE))
    assert (caught.value.errno, caught.value.offset) == (errno.EINVAL, 3 * PAGE_SIZE)
    for offset, data in ((-1, b"x"), (memory.size, b"x"), (memory.size - 1, b"xx")):
        with pytest.raises(ValueError, match="do not lie"):
            memory.populate(offset, data)


@pytest.mark.parametrize("backing", ["uffd-window", "memfd"])
def test_punched_pages_are_gone_private_and_zero(backing: str) -> None:
    with made(backing) as mem:
        data = marked(mem)
        mem.share(PageRange(0, 4))
        blocks = os.fstat(mem.file).st_blocks
        mem.punch(PageRange(2, 6))
        assert os.fstat(mem.file).st_blocks == blocks - 4 * PAGE_SIZE // 512
        assert state(mem) == [page < 2 for page in range(PAGES)]
        assert mem.private_read(0, mem.size) == data[: 2 * PAGE_SIZE] + bytes(4 * PAGE_SIZE) + data[6 * PAGE_SIZE :]
        mem.share(PageRange(0, 6))
        assert mem.window.read(2 * PAGE_SIZE, 4 * PAGE_SIZE) == bytes(4 * PAGE_SIZE)


def test_memfd_secret_gives_no_page_back() -> None:
    with made("memfd-secret") as mem:
        mem.share(PageRange(0, 2))
        with pytest.raises(Refused) as caught:
            mem.punch(PageRange(0, 1))
        assert caught.value.errno == errno.EOPNOTSUPP and mem.is_shared(0)


def test_the_start_may_be_shared() -> None:
    with made("uffd-window", shared=True) as mem:
        assert state(mem) == answers(mem) == [True] * PAGES


def test_a_guest_memfd_is_private_or_shared_as_a_whole() -> None:
    with made("guest-memfd") as mem:
        assert answers(mem) == state(mem) == [False] * PAGES
        for call in (lambda: mem.share(PageRange(0, 1)), lambda: mem.populate(0, b"x"), lambda: mem.private_read(0, 1)):
            with pytest.raises(Refused) as caught:
                call()
            assert caught.value.errno == errno.EOPNOTSUPP
        mem.punch(PageRange(0, 2))
    with made("guest-memfd", shared=True) as mem:
        assert answers(mem) == state(mem) == [True] * PAGES
        mem.private_write(5, b"both ways")
        assert mem.window.read(5, 9) == b"both ways"
        with pytest.raises(Refused):
            mem.unshare(PageRange(0, PAGES))
        assert answers(mem) == state(mem) == [True] * PAGES


def test_auto_says_what_it_took_and_why_and_never_takes_the_baseline() -> None:
    for use in get_args(Use):
        with PrivateMemory(PAGE_SIZE, use=use) as mem:
            assert mem.backing in GUARDED and len(mem.why) > 20
            if use not in ("emulated", "host"):
                assert mem.backing == ("uffd-rwp" if offered() & RWP_FEATURES == RWP_FEATURES else "uffd-window")


def test_unknown_backings_and_wrong_combinations_are_mistakes() -> None:
    with pytest.raises(UserMistake, match="no backing is called"):
        PrivateMemory(PAGE_SIZE, "tmpfs")
    with pytest.raises(UserMistake, match="cannot be isolated"):
        PrivateMemory(PAGE_SIZE, "memfd", isolated=True)


def test_the_ledger_counts_entries_a_page_and_invalidations_a_call() -> None:
    with made("uffd-window") as mem:
        mem.share(PageRange(0, 8))
        mem.unshare(PageRange(2, 4))
        mem.unshare(PageRange(0, 8))  # two runs are left, which one call takes back
        counts = mem.statistics()
    assert (counts["hyp_pte_set"], counts["hyp_pte_clear"], counts["tlbi"]) == (8, 8, 2)
    assert sum(counts.values()) == 18


def test_a_closed_memory_says_so(memory: PrivateMemory) -> None:
    window, one_place = memory.window, np.array([[0], [1]], np.int64)
    memory.close()
    memory.close()
    for call in (
        lambda: memory.share(PageRange(0, 1)),
        lambda: memory.window,
        lambda: memory.file,
        lambda: memory.populate(0, b"x"),
        lambda: memory.is_shared(0),
        lambda: window.read(0, 1),
        lambda: window.write(0, b"x"),
        lambda: window.read_into(0, bytearray(1)),
        lambda: window.memory,
        lambda: window.array,
        lambda: window.pread_from(0, 0, [(0, 1)]),
        lambda: window.pwrite_to(0, 0, [(0, 1)]),
        lambda: window.gather(one_place, 1, np.zeros(1, np.uint8)),
        lambda: window.scatter(one_place, 1, np.zeros(1, np.uint8)),
        lambda: window.transfer(0, one_place, one_place),
        lambda: window.add16(2, 1),
        lambda: window.lend((0, 1)),
    ):
        with pytest.raises(ValueError, match="is closed"):
            call()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["share", "unshare", "punch"]), st.integers(0, PAGES), st.integers(0, PAGES)),
        max_size=12,
    )
)
def test_any_sequence_keeps_state_window_and_contents_in_step(steps: list[tuple[str, int, int]]) -> None:
    with made("uffd-window") as mem:
        expected = bytearray(marked(mem))
        shared = [False] * PAGES
        for verb, a, b in steps:
            pages = PageRange(min(a, b), max(a, b))
            getattr(mem, verb)(pages)
            shared[pages.start : pages.stop] = [verb == "share"] * pages.count
            if verb == "punch":
                expected[pages.start * PAGE_SIZE : pages.stop * PAGE_SIZE] = bytes(pages.count * PAGE_SIZE)
        assert answers(mem) == state(mem) == shared
        assert [run.count for run in mem.shared_runs()] == [
            len(run) for run in "".join("x" if s else " " for s in shared).split()
        ]
        assert mem.private_read(0, mem.size) == expected


def test_arguments_that_are_none_are_said_to_be(memory: PrivateMemory) -> None:
    wrong: object = 0
    for call in (memory.share, memory.unshare, memory.punch, memory.hold):
        with pytest.raises(TypeError, match=r"PageRange\(start, stop\), .*, not 0"):
            call(wrong)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(
            TypeError, match=r"not range\(0, 4, 2\)"
        ):  # it has a start and a stop, and means other pages
            call(range(0, 4, 2))  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match=r"port\.Listener"):
        memory.subscribe(object())  # type: ignore[arg-type]  # that is the point
    for ranges in ([range(0, 4, 2)], PageRange(0, 1)):
        with pytest.raises(TypeError, match="a sequence of those"):
            memory.convert(to_shared=ranges)  # type: ignore[arg-type]  # that is the point
    assert not list(memory.shared_runs())
    with pytest.raises(UserMistake, match="any, kvm, emulated, host"):
        PrivateMemory(PAGE_SIZE, use="foo")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(UserMistake, match="best-effort"):
        PrivateMemory(PAGE_SIZE, isolated="best_efort")  # type: ignore[arg-type]  # that is the point
    with open(os.devnull) as none, pytest.raises(UserMistake, match="no KVM VM's descriptor"):
        PrivateMemory(PAGE_SIZE, "guest-memfd", vm=none.fileno())
    with pytest.raises(UserMistake, match="memfd memory has none"):
        PrivateMemory(PAGE_SIZE, "memfd", vm=5)
    with pytest.raises(TypeError, match="isolate"):
        PrivateMemory(PAGE_SIZE, isolate=True)  # type: ignore[call-arg]  # that is the point
    with pytest.raises(ValueError, match="beyond"):
        PrivateMemory(1 << 63, "memfd")
    with pytest.raises(TypeError, match="number of bytes"):
        PrivateMemory("1", "memfd")  # type: ignore[arg-type]  # that is the point


def test_a_memory_says_what_it_is(memory: PrivateMemory) -> None:
    memory.share(PageRange(2, 5))
    said = f"<PrivateMemory of 65536 bytes, {memory.backing}: 3 of 16 pages shared: [2, 5)>"
    assert repr(memory) == said
    memory.close()
    assert "closed" in repr(memory)


def test_the_names_that_are_exported_are_those_that_there_are() -> None:
    assert set(get_args(BackingName)) == {*BACKINGS, "auto"}
    assert {use for kind in KINDS.values() for use in kind.reasons} == set(get_args(Use))


@pytest.mark.parametrize("backing", CONVERTING)
def test_memory_that_starts_shared_allocates_nothing_that_nobody_touched(backing: str) -> None:
    size = 64 << 20 if backing == "memfd-secret" else 1 << 30
    with made(backing, size, shared=True) as mem:
        view, pages = mem.window, size // PAGE_SIZE
        assert mem.is_shared(0) and mem.is_shared(pages - 1)
        if backing != "memfd-secret":  # which says nothing of its blocks
            assert os.fstat(mem.file).st_blocks == 0
        view.memory[5 * PAGE_SIZE : 5 * PAGE_SIZE + 4] = b"host"
        assert mem.private_read(5 * PAGE_SIZE, 4) == b"host"
        mem.private_write(700 * PAGE_SIZE, b"guest")
        assert bytes(view.memory[700 * PAGE_SIZE : 700 * PAGE_SIZE + 5]) == b"guest"
        if backing != "memfd-secret":
            assert os.fstat(mem.file).st_blocks == 2 * PAGE_SIZE // 512
        mem.unshare(PageRange(5, 6))
        mem.unshare(PageRange(pages - 1, pages))
        assert view.memory[4 * PAGE_SIZE] == view.memory[6 * PAGE_SIZE] == 0
        assert bytes(view.memory[700 * PAGE_SIZE : 700 * PAGE_SIZE + 5]) == b"guest"
        if backing != "memfd":
            for page in (5, pages - 1):
                with pytest.raises(PrivateAccess):
                    view.read(page * PAGE_SIZE, 1)
        if backing == "uffd-window":
            assert os.fstat(mem.file).st_blocks <= 3 * (2 << 20) // 512
            mem.punch(PageRange(300_00, 300_10))
            with pytest.raises(PrivateAccess):
                view.read(30_000 * PAGE_SIZE, 1)
        mem.convert([PageRange(5, 6)], [PageRange(1000, 1001)])
        assert view.read(5 * PAGE_SIZE, 4) == b"host" and not mem.is_shared(1000)
        mem.unshare(PageRange(0, pages))
        assert not list(mem.shared_runs())
        if backing == "uffd-window":
            assert os.fstat(mem.file).st_blocks <= 4 * (2 << 20) // 512
