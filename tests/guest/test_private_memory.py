"""An emulated guest in this host's private memory, every backing: it converts in place and no page stays shared."""

import pytest

from guest_kit import SmallDevice, random_disk, random_program, trace
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import image
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.guest.warden import Warden
from pagewarden.memory import PrivateMemory
from pagewarden.vocab import Event


@pytest.mark.parametrize("design", ["bounce", "window", "iommu"])
@pytest.mark.parametrize("backing", ["memfd", "uffd-window", "memfd-secret"])
def test_a_guest_converts_its_memory_in_place(backing: str, design: str) -> None:
    disk = random_disk(3)
    described = random_program(design, disk)
    at, code = described.layout, assemble(described)
    memory = PrivateMemory(at.size, backing)
    with memory:
        for gpa, content in image(described, code.content):
            memory.populate(gpa, content)
        device = SmallDevice(memory.window, at, bytearray(disk))
        warden = Warden(memory, [described], device.process)
        cpu = UnicornCpu(memory.guest_address, memory.size)
        outcome = serve(Guest(cpu, code, warden, described.outs))
        cpu.close()
        assert outcome.failures == 0 and outcome.requests == len(described.requests)
        assert list(memory.shared_runs()) == [at.shared_pages]
        assert memory.private_read(at.shared, at.end - at.shared) == trace(described, disk, None).memory[at.shared :]
        opened = at.shared_pages.count + (int(described.requests["pages"].sum()) if design != "bounce" else 0)
        if backing != "memfd":
            assert memory.statistics()[Event.HYP_PTE_SET.key] == opened
