"""What guests cost on each CPU: instructions, a write of a port, a request. `python bench/guest.py`

The device answers at once and moves no data, so a request is the guest's own work, its exits, and the conversions.
Medians of five rounds, CPUs by turns in each round; the last column is against Unicorn.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from pagewarden.guest.listing import Code, assemble
from pagewarden.guest.program import Program, image, program
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.guest.warden import Warden
from pagewarden.kernel.kvm import Kvm
from pagewarden.kernel.kvm_x86 import KvmMachine, Slot
from pagewarden.memory import PrivateMemory
from pagewarden.port import Cpu
from pagewarden.vocab import PAGE_SIZE, Unavailable

ROUNDS = 5
REQUESTS = 1000
LOOPS = 20_000_000
OUTS = 2000
COUNT_DOWN = b"\xb9" + LOOPS.to_bytes(4, "little") + bytes.fromhex("ffc975fcba00050000b805000000ef")
"""mov ecx, LOOPS; again: dec ecx; jne again; mov edx, HYPERCALL; mov eax, DONE; out dx, eax"""
RING = bytes.fromhex("ba1005000031c0efebfd")
"""mov edx, DOORBELL; xor eax, eax; again: out dx, eax; jmp again"""


class InstantDevice:
    """Marks every posted request as served without looking at it."""

    def __init__(self, memory: PrivateMemory, described: Program) -> None:
        self._window, self._at, self._batch = memory.window, described.layout, described.batch

    def process(self, _queue: int) -> None:
        self._window.write(self._at.status, bytes(self._batch))
        self._window.write(self._at.used + 2, self._window.read(self._at.avail + 2, 2))


@contextlib.contextmanager
def unicorn(memory: PrivateMemory) -> Iterator[Cpu]:
    cpu = UnicornCpu(memory.guest_address, memory.size)
    yield cpu
    cpu.close()


@contextlib.contextmanager
def kvm(memory: PrivateMemory) -> Iterator[Cpu]:
    with (
        Kvm() as device,
        device.create_vm() as vm,
        KvmMachine(vm, [Slot(0, memory.size, memory.guest_address)]) as machine,
    ):
        yield machine.cpus[0]


Maker = Callable[[PrivateMemory], contextlib.AbstractContextManager[Cpu]]


def makers() -> dict[str, Maker]:
    """The CPUs of this host, by the label that their numbers carry."""
    found: dict[str, Maker] = {}
    with PrivateMemory(PAGE_SIZE, "memfd") as memory:
        for maker in (unicorn, kvm):
            try:
                with maker(memory) as cpu:
                    found[f"{cpu.backend} ({cpu.level})"] = maker
            except Unavailable as missing:
                print(f"{maker.__name__}: {missing}")
    return found


def instructions(maker: Maker) -> float:
    """ns an instruction of a tight loop."""
    with PrivateMemory(PAGE_SIZE, "memfd") as memory, maker(memory) as cpu:
        memory.populate(0, COUNT_DOWN)
        cpu.start(0)
        start = time.perf_counter()
        cpu.run(lambda port, value: cpu.stop())
        return (time.perf_counter() - start) / (2 * LOOPS) * 1e9


def doorbells(maker: Maker) -> float:
    """us for a write of a port that the host answers with nothing."""
    rung = 0

    def out(port: int, value: int) -> None:
        nonlocal rung
        rung += 1
        if rung == OUTS:
            cpu.stop()

    with PrivateMemory(PAGE_SIZE, "memfd") as memory, maker(memory) as cpu:
        memory.populate(0, RING)
        cpu.start(0)
        start = time.perf_counter()
        cpu.run(out)
        return (time.perf_counter() - start) / OUTS * 1e6


def requests(design: str, batch: int, backing: str) -> Callable[[Maker], float]:
    """us for a 4 KiB write."""
    numbers = np.arange(REQUESTS)
    described = program(
        design, np.ones(REQUESTS), 8 * numbers % 4096, np.full(REQUESTS, 4096), np.zeros(8192, np.uint64), batch=batch
    )
    code: Code = assemble(described)

    def measure(maker: Maker) -> float:
        with PrivateMemory(described.layout.size, backing) as memory, maker(memory) as cpu:
            for gpa, content in image(described, code.content):
                memory.populate(gpa, content)
            warden = Warden(memory, [described], InstantDevice(memory, described).process)
            start = time.perf_counter()
            assert serve(Guest(cpu, code, warden, described.outs)).failures == 0
            return (time.perf_counter() - start) / REQUESTS * 1e6

    return measure


def main() -> None:
    measures: dict[str, Callable[[Maker], float]] = {"instruction, ns": instructions, "doorbell, us": doorbells}
    for backing in ("memfd", "uffd-window"):
        for design in ("bounce", "window", "iommu"):
            for batch in (1, 32):
                measures[f"4 KiB write, {design}, batch {batch}, {backing}, us"] = requests(design, batch, backing)
    cpus = makers()
    print(f"{'':52}" + "".join(f"{label:>28}" for label in cpus) + f"{'ratio':>8}")
    for name, measure in measures.items():
        rounds = [[measure(maker) for maker in cpus.values()] for _ in range(ROUNDS)]
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        print(f"{name:52}" + "".join(f"{median:28.2f}" for median in medians) + f"{medians[-1] / medians[0]:8.2f}")


if __name__ == "__main__":
    main()
