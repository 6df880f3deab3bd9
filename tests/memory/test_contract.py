"""What pagewarden.port.Memory promises, asked of the model's memory and of every live backing: no difference."""

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.law import BACKED, policy_named
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, Unavailable
from pagewarden.port import Memory
from pagewarden.sim.memory import ModelMemory

PAGES = 8
SIZE = PAGES * PAGE_SIZE
DATA = b"".join(bytes([65 + page]) * PAGE_SIZE for page in range(PAGES))


def live(**options: object) -> Memory:
    return PrivateMemory(SIZE, **options)  # type: ignore[arg-type]  # of the rows below


MEMORIES: dict[str, Callable[[], Memory]] = {
    **{
        f"model:{name}": partial(ModelMemory, SIZE, policy_named(BACKED.get(name, name)))
        for name in ("uffd-window", "memfd-secret", "memfd", "hybrid")
    },
    **{name: partial(live, backing=name) for name in ("uffd-window", "memfd-secret", "memfd")},
    "isolated": partial(live, isolated=True),
}
NO_PUNCH = ("model:memfd-secret", "memfd-secret")


class Listening:
    def __init__(self, refusing: bool = False) -> None:
        self.heard: list[tuple[str, PageRange]] = []
        self.refusing = refusing

    def invalidate_begin(self, pages: PageRange) -> None:
        if self.refusing:
            raise Refused(errno.EBUSY, "not now")
        self.heard.append(("begin", pages))

    def invalidate_end(self, pages: PageRange) -> None:
        self.heard.append(("end", pages))


@pytest.fixture(params=MEMORIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def said(call: Callable[[], object]) -> object:
    """What it gives, or the type of what it raises, with a refusal's errno and offset."""
    try:
        return call()
    except Refused as refusal:
        return Refused, refusal.errno, refusal.offset
    except (ValueError, TypeError) as error:
        return type(error)


def shared(mem: Memory) -> list[int]:
    return [page for page in range(PAGES) if mem.is_shared(page)]


def reads(mem: Memory) -> list[object]:
    """What the host gets of each page; nothing is said of an isolated window, which is elsewhere."""
    try:
        window = mem.window
    except Unavailable:
        return []
    return [said(partial(window.read, page * PAGE_SIZE, 2)) for page in range(PAGES)]


def expected_reads(mem: Memory, bytes_: bytes) -> list[object]:
    if not reads(mem):
        return []
    open_ = range(PAGES) if mem.backing.endswith("memfd") else shared(mem)
    return [
        bytes_[page * PAGE_SIZE :][:2] if page in open_ else (Refused, errno.EFAULT, page * PAGE_SIZE)
        for page in range(PAGES)
    ]


def test_the_same_calls_give_the_same_answers(name: str) -> None:
    mem, heard = MEMORIES[name](), Listening()
    assert mem.size == SIZE and (name == "isolated" or isinstance(mem, Memory))  # which asks for its window
    mem.populate(0, DATA)
    assert shared(mem) == [] and reads(mem) == expected_reads(mem, DATA)
    mem.subscribe(heard)
    mem.share(PageRange(2, 5))
    mem.share(PageRange(2, 5))  # again
    mem.share(PageRange(1, 6))  # in part
    mem.share(PageRange(3, 3))
    mem.unshare(PageRange(3, 4))
    mem.unshare(PageRange(3, 4))
    mem.unshare(PageRange(6, 8))  # private
    assert shared(mem) == [1, 2, 4, 5] and reads(mem) == expected_reads(mem, DATA)
    told = [PageRange(2, 5), PageRange(1, 6), PageRange(3, 4)]
    assert heard.heard == [(when, pages) for pages in told for when in ("begin", "end")]
    assert said(lambda: mem.populate(0, b"x" * SIZE)) == (Refused, errno.EINVAL, PAGE_SIZE)
    mem.unshare(PageRange(0, 8))
    assert shared(mem) == [] and reads(mem) == expected_reads(mem, DATA)
    mem.close()


def test_what_does_not_lie_inside_is_a_value_error(name: str) -> None:
    mem = MEMORIES[name]()
    outside: tuple[Callable[[], object], ...] = (
        lambda: mem.is_shared(PAGES),
        lambda: mem.is_shared(-1),
        lambda: mem.populate(SIZE, b"x"),
        lambda: mem.populate(-1, b"x"),
        *(
            partial(call, PageRange(*pages))
            for call in (mem.share, mem.unshare, mem.punch)
            for pages in ((-1, 1), (0, PAGES + 1), (3, 2), (PAGES + 1, PAGES + 2))
        ),
    )
    assert [said(call) for call in outside] == [ValueError] * len(outside)
    wrong: Any = 0
    assert [said(partial(call, wrong)) for call in (mem.share, mem.unshare, mem.punch)] == [TypeError] * 3
    assert shared(mem) == []
    mem.close()


def test_a_listener_may_refuse_and_then_nothing_has_changed(name: str) -> None:
    mem, first, refusing, last = MEMORIES[name](), Listening(), Listening(True), Listening()
    mem.share(PageRange(0, 2))
    for listener in (first, refusing, last):
        mem.subscribe(listener)
    for call in (mem.share, mem.unshare, mem.punch):
        assert said(partial(call, PageRange(0, 4))) == (Refused, errno.EBUSY, None)
    assert [when for when, _ in first.heard] == ["begin", "end"] * 3 and last.heard == refusing.heard == []
    assert shared(mem) == [0, 1]
    mem.close()


def test_punched_pages_are_private_and_empty(name: str) -> None:
    mem = MEMORIES[name]()
    mem.populate(0, DATA)
    mem.share(PageRange(0, 4))
    answer = said(lambda: mem.punch(PageRange(2, 6)))
    if name in NO_PUNCH:
        assert isinstance(answer, tuple) and answer[:2] == (Refused, errno.EOPNOTSUPP) and shared(mem) == [0, 1, 2, 3]
        mem.close()
        return
    assert answer is None and shared(mem) == [0, 1]
    mem.share(PageRange(0, PAGES))
    after = DATA[: 2 * PAGE_SIZE] + bytes(4 * PAGE_SIZE) + DATA[6 * PAGE_SIZE :]
    assert reads(mem) == expected_reads(mem, after)
    mem.punch(PageRange(3, 3))
    mem.close()


def test_after_close_every_call_is_a_value_error(name: str) -> None:
    mem = MEMORIES[name]()
    mem.close()
    mem.close()
    calls: tuple[Callable[[], object], ...] = (
        *(partial(call, PageRange(0, 1)) for call in (mem.share, mem.unshare, mem.punch)),
        lambda: mem.populate(0, b"x"),
        lambda: mem.is_shared(0),
        lambda: mem.subscribe(Listening()),
        lambda: mem.window,
    )
    assert [said(call) for call in calls] == [ValueError] * len(calls)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["share", "unshare", "populate"]), st.integers(0, PAGES), st.integers(0, PAGES)),
        max_size=8,
    )
)
def test_any_sequence_gives_the_same_answers_everywhere(steps: list[tuple[str, int, int]]) -> None:
    answers = {}
    for name in ("model:uffd-window", "model:memfd-secret", "uffd-window", "memfd-secret"):
        mem = MEMORIES[name]()
        found = []
        for number, (verb, a, b) in enumerate(steps):
            pages = PageRange(min(a, b), max(a, b))
            if verb == "populate":
                data = bytes([number + 1]) * (pages.count * PAGE_SIZE)
                found.append(said(partial(mem.populate, pages.start * PAGE_SIZE, data)))
            else:
                found.append(said(partial(getattr(mem, verb), pages)))
            found.append((shared(mem), reads(mem)))
        mem.close()
        answers[name] = found
    assert all(found == answers["uffd-window"] for found in answers.values())
