"""Vectors of ranges: the same result as one by one, all of them or nothing."""

import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pagewarden.kernel.region import Region
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory, Refused
from pagewarden.memory.batch import RANGE, CompiledSingle
from pagewarden.vocab import Event

PAGES = 32
Vector = list[tuple[int, int]]
vectors = st.lists(
    st.tuples(st.integers(0, PAGES), st.integers(0, PAGES)).map(lambda pair: (min(pair), max(pair))), max_size=6
)


def made(backing: str = "uffd-window") -> PrivateMemory:
    return PrivateMemory(PAGES * PAGE_SIZE, backing)


def array(ranges: Vector) -> NDArray[np.int64]:
    return np.array(ranges, np.int64).reshape(-1, 2)


def state(mem: PrivateMemory) -> list[bool]:
    for page in range(PAGES):
        try:
            mem.window.read(page * PAGE_SIZE, 1)
            assert mem.is_shared(page) or mem.backing == "memfd"
        except PrivateAccess:
            assert not mem.is_shared(page)
    return [mem.is_shared(page) for page in range(PAGES)]


@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret", "memfd"])
@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(vectors, vectors), max_size=4), populated=st.booleans())
def test_it_is_what_single_conversions_give(backing: str, steps: list[tuple[Vector, Vector]], populated: bool) -> None:
    with made(backing) as one, made(backing) as many:
        for mem in (one, many):
            if populated:  # else the pages are holes, which compiled code leaves to the other path
                mem.populate(0, bytes(mem.size))
        for to_shared, to_private in steps:
            for pair in to_private:
                one.unshare(PageRange(*pair))
            for pair in to_shared:
                one.share(PageRange(*pair))
            many.convert(array(to_shared), [PageRange(*pair) for pair in to_private])
            assert state(one) == state(many)
        assert one.statistics() == many.statistics()


@pytest.mark.parametrize("backing", ["uffd-window", "memfd"])
def test_a_held_page_refuses_the_whole_vector(backing: str) -> None:
    with made(backing) as mem:
        mem.share(PageRange(8, 12))
        before = state(mem)
        with mem.hold(PageRange(20, 21)), pytest.raises(Refused) as caught:
            mem.convert(array([(0, 2), (19, 22)]), array([(9, 10)]))
        assert (caught.value.errno, caught.value.offset) == (errno.EAGAIN, 20 * PAGE_SIZE)
        assert state(mem) == before


def test_consumers_are_told_of_each_range() -> None:
    class Consumer:
        def __init__(self) -> None:
            self.seen: list[tuple[str, PageRange]] = []

        def invalidate_begin(self, pages: PageRange) -> None:
            self.seen.append(("begin", pages))

        def invalidate_end(self, pages: PageRange) -> None:
            self.seen.append(("end", pages))

    with made() as mem:
        consumer = Consumer()
        mem.subscribe(consumer)
        mem.convert(array([(0, 2), (5, 6)]))
        assert consumer.seen == [(when, PageRange(*pair)) for when in ("begin", "end") for pair in ((0, 2), (5, 6))]


def test_a_kernel_that_says_no_half_way_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as mem:
        mem.populate(0, bytes(10 * PAGE_SIZE))  # beyond that, holes
        mem.share(PageRange(2, 3))
        before = state(mem)
        opening = mem._state._share

        def failing(offset: int, length: int) -> None:
            if offset == 14 * PAGE_SIZE:
                raise OSError(errno.ENOMEM, "no memory")
            opening(offset, length)

        monkeypatch.setattr(mem._state, "_share", failing)
        with pytest.raises(Refused) as caught:
            mem.convert(array([(0, 4), (12, 13), (14, 15), (20, 21)]), array([(2, 3)]))
        assert (caught.value.errno, caught.value.offset) == (errno.ENOMEM, 14 * PAGE_SIZE)
        assert state(mem) == before


@pytest.mark.parametrize(
    "ranges",
    [
        array([(-1, 2)]),
        array([(3, 2)]),
        array([(0, PAGES + 1)]),
        np.zeros((2, 3), np.int64),
        np.zeros((2, 2), np.int32),
        np.zeros(4, np.int64),
    ],
)
def test_what_is_no_vector_of_ranges_inside_is_a_value_error(ranges: NDArray[np.int64]) -> None:
    with made() as mem:
        for arguments in ((ranges, ()), ((), ranges)):
            with pytest.raises(ValueError, match=r"ranges|do not lie|outside"):
                mem.convert(*arguments)
        assert not any(state(mem))


def quick(mem: PrivateMemory) -> int:
    """How many conversions of one range compiled code has made."""
    single = mem._state._single
    return 0 if single is None else sum(calls for _, calls in single.done())


@settings(max_examples=40, deadline=None)
@given(
    acts=st.lists(
        st.tuples(st.sampled_from(["share", "unshare", "punch"]), st.integers(0, PAGES - 1), st.integers(0, 3)),
        max_size=30,
    ),
    populated=st.booleans(),
)
def test_a_range_at_a_time_compiled_is_what_it_is_without(acts: list[tuple[str, int, int]], populated: bool) -> None:
    with made() as plain, made() as compiled:
        compiled.convert()
        for mem in (plain, compiled):
            if populated:
                mem.populate(0, b"".join(bytes([page + 1]) * PAGE_SIZE for page in range(PAGES)))
            for act, page, more in acts:
                getattr(mem, act)(PageRange(page, min(page + 1 + more, PAGES)))
        assert state(plain) == state(compiled)
        assert plain.private_read(0, plain.size) == compiled.private_read(0, compiled.size)
        assert plain.statistics() == compiled.statistics()
        assert not quick(plain)


def test_a_range_is_compiled_after_a_convert() -> None:
    """One whose pages are alike; the others go the other way."""
    with made() as mem:
        mem.populate(0, bytes(mem.size))
        mem.convert()
        for verb, page in (("share", 3), ("share", 3), ("unshare", 3), ("unshare", 5), ("share", PAGES - 1)):
            getattr(mem, verb)(PageRange(page, page + 1))
        assert quick(mem) == 3
        mem.share(PageRange(0, 2))
        mem.share(PageRange(4, 4))
        assert quick(mem) == 4 and mem.statistics()[Event.HYP_PTE_SET.key] == 4
        mem.share(PageRange(0, 4))
        mem.unshare(PageRange(0, 6))
        assert quick(mem) == 4 and list(mem.shared_runs()) == [PageRange(PAGES - 1, PAGES)]


@pytest.mark.parametrize("more", [0, 1])
def test_a_long_range_does_not_keep_the_interpreter(more: int) -> None:
    with PrivateMemory((RANGE + more) * PAGE_SIZE, "uffd-window") as mem:
        mem.populate(0, bytes(mem.size))
        mem.convert()
        whole = PageRange(0, RANGE + more)
        mem.share(whole)
        assert quick(mem) == 1 - more and list(mem.shared_runs()) == [whole]
        mem.unshare(whole)
        assert quick(mem) == 2 - 2 * more and not list(mem.shared_runs())


@pytest.mark.parametrize("verb", ["share", "unshare"])
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (PageRange(-1, 0), ValueError),
        (PageRange(PAGES, PAGES + 1), ValueError),
        (PageRange(1 << 70, (1 << 70) + 1), ValueError),
        (PageRange(-1 << 63, (-1 << 63) + 1), ValueError),
        (PageRange(1.0, 2.0), TypeError),  # type: ignore[arg-type]
        (3, TypeError),
    ],
)
def test_compiled_or_not_a_page_is_checked(verb: str, wrong: PageRange, error: type[Exception]) -> None:
    for compiled in (False, True):
        with made() as mem:
            if compiled:
                mem.convert()
            with pytest.raises(error):
                getattr(mem, verb)(wrong)
            assert not any(state(mem))


def test_compiled_or_not_a_page_that_is_held_or_watched_is_asked_for() -> None:
    class Sayer:
        def invalidate_begin(self, pages: PageRange) -> None:
            raise Refused(errno.EBUSY, "no", pages.start)

        def invalidate_end(self, pages: PageRange) -> None:
            pass

    with made() as mem:
        mem.populate(0, bytes(mem.size))
        mem.convert()
        mem.share(PageRange(1, 2))
        with mem.hold(PageRange(1, 3)):
            for verb, page in (("unshare", 1), ("share", 2)):
                with pytest.raises(Refused, match="holds"):
                    getattr(mem, verb)(PageRange(page, page + 1))
        mem.subscribe(sayer := Sayer())
        with pytest.raises(Refused, match="no"):
            mem.unshare(PageRange(1, 2))
        mem.unsubscribe(sayer)
        mem.unshare(PageRange(1, 2))
        assert not any(state(mem)) and quick(mem) == 1
        mem.share(PageRange(1, 2))
        mem.unshare(PageRange(1, 2))
        assert not any(state(mem)) and quick(mem) == 3  # nobody is there any more
        mem.close()
        with pytest.raises(ValueError, match="closed"):
            mem.share(PageRange(1, 2))


@pytest.mark.parametrize("word", ["guard", "window"])
def test_a_page_that_compiled_code_cannot_convert_is_left_to_the_other_way(word: str) -> None:
    with made() as mem:
        mem.populate(0, bytes(mem.size))
        mem.share(PageRange(4, 5))
        mem.convert()
        reserved = Region(mem.size)  # shared memory without a guard: no page of it can be continued
        single = mem._state._single
        assert isinstance(single, CompiledSingle)
        single._words[0 if word == "guard" else 1] = 1 << 30 if word == "guard" else reserved.address + 1
        mem.share(PageRange(3, 4))
        mem.unshare(PageRange(4, 5))
        assert [page for page, shared in enumerate(state(mem)) if shared] == [3]
        assert quick(mem) == (1 if word == "guard" else 0)
        reserved.close()
