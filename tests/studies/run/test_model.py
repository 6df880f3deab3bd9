"""The model's memory as a guest's run meets it."""

from pagewarden.law import POLICIES
from pagewarden.sim.memory import ModelMemory
from pagewarden.vocab import PAGE_SIZE, Event, PageRange


def test_a_range_is_flushed_once() -> None:
    memory = ModelMemory(8 * PAGE_SIZE, POLICIES["uffd-window"])
    before = memory.statistics().get(Event.TLBI.key, 0)
    memory.share(PageRange(0, 8))
    memory.unshare(PageRange(0, 8))
    assert memory.statistics()[Event.TLBI.key] - before == 1
    assert memory.statistics()[Event.HYP_PTE_CLEAR.key] == 8 == memory.statistics()[Event.HYP_PTE_SET.key]
