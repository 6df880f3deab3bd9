"""Who else has the pages of a memory: they are told, may refuse, and hold."""

import errno

import pytest

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused
from private_kit import PAGES, marked, state


def test_a_held_page_is_not_converted(memory: PrivateMemory) -> None:
    data = marked(memory)
    memory.share(PageRange(0, 8))
    with memory.hold(PageRange(6, 7), PageRange(3, 4)):
        for call, pages in (
            (memory.unshare, PageRange(0, 8)),
            (memory.punch, PageRange(2, 5)),
            (memory.share, PageRange(3, 9)),
        ):
            with pytest.raises(Refused) as caught:
                call(pages)
            assert (caught.value.errno, caught.value.offset) == (errno.EAGAIN, 3 * PAGE_SIZE)
            assert state(memory) == [page < 8 for page in range(PAGES)]
            assert memory.window.read(0, 8 * PAGE_SIZE) == data[: 8 * PAGE_SIZE]
        memory.unshare(PageRange(4, 6))  # the neighbours convert
    memory.unshare(PageRange(0, 8))
    assert state(memory) == [False] * PAGES


class Consumer:
    """Keeps a reference on what it uses; drops it when told, unless it is stubborn."""

    def __init__(self, mem: PrivateMemory, pages: PageRange, stubborn: bool = False) -> None:
        self.seen: list[tuple[str, PageRange]] = []
        self.hold = mem.hold(pages)
        self.stubborn = stubborn

    def invalidate_begin(self, pages: PageRange) -> None:
        self.seen.append(("begin", pages))
        if not self.stubborn:
            self.hold.release()

    def invalidate_end(self, pages: PageRange) -> None:
        self.seen.append(("end", pages))


def test_consumers_are_told_around_each_change_and_drop_their_references(memory: PrivateMemory) -> None:
    consumer = Consumer(memory, PageRange(0, 4))
    memory.subscribe(consumer)
    memory.share(PageRange(0, 4))
    memory.unshare(PageRange(1, 2))
    assert consumer.seen == [(when, pages) for pages in (PageRange(0, 4), PageRange(1, 2)) for when in ("begin", "end")]
    assert memory.statistics()["notifications"] == 2 and memory.statistics()["pins"] == 4
    memory.unsubscribe(consumer)
    memory.share(PageRange(1, 2))
    assert len(consumer.seen) == 4


def test_a_consumer_that_keeps_a_page_makes_the_change_fail_for_all(memory: PrivateMemory) -> None:
    memory.share(PageRange(0, 4))
    willing, stubborn = Consumer(memory, PageRange(0, 2)), Consumer(memory, PageRange(2, 3), stubborn=True)
    memory.subscribe(willing)
    memory.subscribe(stubborn)
    with pytest.raises(Refused) as caught:
        memory.unshare(PageRange(0, 4))
    assert (caught.value.errno, caught.value.offset) == (errno.EAGAIN, 2 * PAGE_SIZE)
    assert [when for when, _ in willing.seen] == [when for when, _ in stubborn.seen] == ["begin", "end"]
    assert state(memory) == [page < 4 for page in range(PAGES)]


def test_a_consumer_may_refuse_and_those_told_before_hear_the_end(memory: PrivateMemory) -> None:
    class Refuser(Consumer):
        def invalidate_begin(self, pages: PageRange) -> None:
            raise Refused(errno.EBUSY, "not now", 0)

    first, refuser, last = (kind(memory, PageRange(0, 0)) for kind in (Consumer, Refuser, Consumer))
    for consumer in (first, refuser, last):
        memory.subscribe(consumer)
    with pytest.raises(Refused, match="not now"):
        memory.share(PageRange(0, 1))
    assert [when for when, _ in first.seen] == ["begin", "end"] and refuser.seen == last.seen == []
    assert not memory.is_shared(0)


def test_all_consumers_hear_the_end_whatever_one_makes_of_it(memory: PrivateMemory) -> None:
    class Loud(Consumer):
        def invalidate_end(self, pages: PageRange) -> None:
            super().invalidate_end(pages)
            raise RuntimeError(f"consumer {self.number}")

        number = 0

    consumers = [Loud(memory, PageRange(0, 0)) for _ in range(3)]
    for number, consumer in enumerate(consumers):
        consumer.number = number
        memory.subscribe(consumer)
    with pytest.raises(RuntimeError, match="consumer 0"):
        memory.share(PageRange(0, 1))
    assert [[when for when, _ in consumer.seen] for consumer in consumers] == [["begin", "end"]] * 3
    assert memory.is_shared(0) and memory.statistics()["notifications"] == 3


def test_a_hold_that_an_exception_left_behind_refuses_nothing(memory: PrivateMemory) -> None:
    def struck() -> None:
        memory.hold(PageRange(0, 4))
        raise KeyboardInterrupt

    memory.share(PageRange(0, 4))
    with pytest.raises(KeyboardInterrupt):
        struck()
    memory.unshare(PageRange(0, 4))
    assert not memory.is_shared(0)
