"""What is counted is what the block does, however deep it is called and however full the interpreter's memory is."""

import gc
from collections.abc import Callable

import pytest

from deep import at_every_depth, called
from pagewarden.kernel.counters import Counters
from pagewarden.kernel.still import still

MEMORY = "syscalls:mmap|munmap|brk|madvise"


def asked_while(go: Callable[[], object]) -> int:
    """System calls for memory."""
    with Counters(MEMORY) as counted:
        before = counted[MEMORY]
        go()
        return counted[MEMORY] - before


def test_a_caller_as_deep_as_may_be_costs_the_loop_no_call() -> None:
    def work() -> None:
        for _ in range(10):
            called(8)

    assert max(at_every_depth(lambda: asked_while(work))) >= 20, "a chunk more and a chunk less for each turn"
    assert set(at_every_depth(lambda: still(lambda: asked_while(work)))) == {0}


def test_objects_find_room_and_give_none_back() -> None:
    def work() -> None:
        for _ in range(3):
            kept = [(bytes(400), n) for n in range(1000)]  # 0.4 MiB and the list
            kept.clear()

    assert still(lambda: asked_while(work)) == 0


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_the_collector_is_on_again(failure: type[BaseException]) -> None:
    def fails() -> None:
        assert not gc.isenabled()
        raise failure

    with pytest.raises(failure):
        still(fails)
    assert gc.isenabled()
