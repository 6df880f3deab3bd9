"""The model's memory as a guest's run meets it."""

import errno
from pathlib import Path

import pytest

from pagewarden.designs import DESIGNS, Steps
from pagewarden.law import POLICIES
from pagewarden.sim.memory import ModelMemory
from pagewarden.studies.run.host import ModelHalf
from pagewarden.studies.run.host_error import MemoryRefuses
from pagewarden.studies.run.host_half import Request
from pagewarden.vocab import PAGE_SIZE, Event, PageRange, Refused


def test_a_range_is_flushed_once() -> None:
    memory = ModelMemory(8 * PAGE_SIZE, POLICIES["uffd-window"])
    before = memory.statistics().get(Event.TLBI.key, 0)
    memory.share(PageRange(0, 8))
    memory.unshare(PageRange(0, 8))
    assert memory.statistics()[Event.TLBI.key] - before == 1
    assert memory.statistics()[Event.HYP_PTE_CLEAR.key] == 8 == memory.statistics()[Event.HYP_PTE_SET.key]


class Failing(ModelMemory):
    """Refuses the n-th step that somebody asks for from now on, once."""

    left = -1

    def perform(self, steps: Steps, pages: PageRange) -> None:
        self.left -= 1
        if self.left == 0:
            raise Refused(errno.ENOMEM, "no memory", 0)
        super().perform(steps, pages)


@pytest.mark.parametrize("to_file", [True, False])
@pytest.mark.parametrize("design", DESIGNS)
def test_a_request_refused_at_any_step_leaves_nothing_in_the_host(design: str, to_file: bool, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(2 * PAGE_SIZE))
    memory = Failing(4 * PAGE_SIZE, POLICIES["uffd-window"])  # there a mapping of the file's is an alias
    memory.share(PageRange(0, 2))
    machine, step, refused = memory.contents.machine, 0, 0
    with disk.open("r+b") as file:
        half = ModelHalf(memory, design, file.fileno())
        while refused == step:
            step += 1
            memory.left = step
            try:
                half(Request(0, 2 * PAGE_SIZE, 0, to_file))
            except MemoryRefuses:
                refused += 1
            memory.left = -1
            held = [(machine.page(page).pins, machine.page(page).alias) for page in (0, 1)]
            assert held == [(0, False)] * 2, f"a refusal at step {step}"
    assert refused > 0
