"""A KVM guest whose private pages are away most of the time: it does not notice."""

from pathlib import Path

import pytest

from guest_kit import SmallDevice, random_disk, random_program, trace
from kept_kit import kept
from kvm_kit import machine
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import image
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.warden import Warden
from pagewarden.kernel.kvm import Vm
from pagewarden.memory import PAGE_SIZE, PageRange


@pytest.mark.parametrize("limit", [8, 32])
def test_a_guest_runs_on_memory_that_goes_and_comes(vm: Vm, tmp_path: Path, limit: int) -> None:
    disk = random_disk(3)
    described = random_program("window", disk)
    pages = described.layout.size // PAGE_SIZE
    code = assemble(described)
    with kept(tmp_path / "swap", pages, limit=limit * PAGE_SIZE, ahead=1) as memory, machine(vm, memory) as made:
        for gpa, content in image(described, code.content):
            memory.populate(gpa, content)
        memory.swap_out(PageRange(0, pages))
        device = SmallDevice(memory.window, described.layout, bytearray(disk))
        outcome = serve(Guest(made.cpus[0], code, Warden(memory, [described], device.process), described.outs))
        assert outcome.failures == 0 and outcome.requests == len(described.requests)
        assert memory.traffic()["faults"] > 0 and memory.resident <= limit * PAGE_SIZE
        end = described.layout.end
        memory.swap_out(PageRange(0, pages))
        expected = trace(described, disk, None).memory
        shared = described.layout.shared
        assert memory.private_read(shared, end - shared) == expected[shared:]
