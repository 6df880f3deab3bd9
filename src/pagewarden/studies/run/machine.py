"""A guest, its memory, its CPU and its host, put together for one run and taken apart however it ends."""

import gc
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pagewarden.guest.hypercalls import GuestReport
from pagewarden.guest.interpret import interpret
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import Program, image
from pagewarden.guest.serve import Guest, Hypervisor, serve
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.guest.warden import Warden
from pagewarden.keep import KeptMemory
from pagewarden.keep.snapshot import read_key
from pagewarden.kernel.kvm import Kvm
from pagewarden.kernel.kvm_x86 import KvmMachine, Slot
from pagewarden.law import BACKED, policy_named, policy_of
from pagewarden.memory import PrivateMemory
from pagewarden.memory.backings.protocol import Use
from pagewarden.port import Cpu, Memory
from pagewarden.sim.memory import ModelMemory
from pagewarden.studies.run.canary import PAGES, Canary, Sight, search_process
from pagewarden.studies.run.core import search_core
from pagewarden.studies.run.device import WAYS
from pagewarden.studies.run.disk import LONGEST, DiskFile
from pagewarden.studies.run.host import HostTally, LocalDevice, ModelHalf, RequestPath
from pagewarden.studies.run.host_half import HostHalf
from pagewarden.studies.run.interrupt import stopped_by_ctrl_c
from pagewarden.studies.run.isolated import IsolatedDevice, WardensMemory
from pagewarden.studies.run.paused import (
    PausedGuest,
    Pausing,
    canary_of,
    encoded,
    half,
    kept_memory,
    memory_size,
    stood,
)  # fmt: skip
from pagewarden.studies.run.plan import BY_FILE_CALLS, RunPlan
from pagewarden.vocab import PAGE_SIZE, Event, GuestStopped, PagewardenError, PrivateAccess, Unavailable, UserMistake


class Meter:
    """Who watches a run: each method gives back what it was given, watched, or, as here, as it is."""

    def memory(self, memory: Memory) -> Memory:
        return memory

    def path(self, path: RequestPath) -> RequestPath:
        return path

    def device(self, notify: Callable[[int], None]) -> Callable[[int], None]:
        return notify

    def hypervisor(self, behind: Hypervisor) -> Hypervisor:
        return behind

    def run(self, go: Callable[[], GuestReport]) -> GuestReport:
        return go()


class LiveMachine:
    """On real private memory, on an emulated CPU or on KVM."""

    def __init__(
        self,
        plan: RunPlan,
        kind: str,
        described: Program,
        disk: DiskFile,
        opened: ExitStack,
        meter: Meter | None = None,
        came: tuple[PrivateMemory, PausedGuest] | None = None,
    ) -> None:
        self._plan, self._described = plan, described
        self._canary, at = Canary.random(), described.layout.end
        memory, self._paused = came or memory_for(plan, kind, described)
        self.memory = opened.enter_context(memory)
        self.backing, self.why = memory.backing, memory.why
        self.policy = policy_of(memory.backing, plan.isolated).name
        self._code = assemble(described)
        if self._paused is None:
            for gpa, content in image(described, self._code.content):
                memory.populate(gpa, content)
        self.device = self._device(disk, opened, meter)
        opened.callback(self.device.close)
        self._meter = meter
        known: Memory = WardensMemory(memory) if plan.isolated else memory
        self.warden = Warden(
            meter.memory(known) if meter else known,
            [described],
            meter.device(self.device.notify) if meter else self.device.notify,
        )
        self._cpu = opened.enter_context(cpu_for(kind, memory))
        self.backend, self.level = self._cpu.backend, self._cpu.level
        watched: Hypervisor = meter.hypervisor(self.warden) if meter else self.warden
        if self._paused is not None:
            self._canary = canary_of(self._paused)
            self.warden.resume(self._paused.taken_up)
        else:
            secret = self._canary.code(at)
            memory.populate(at, secret.content)
            serve(Guest(self._cpu, secret, self.warden, 1))
            self.warden.calls.clear()
        self._first = 0 if self._paused is None else self._paused.doorbells
        self.pauses_at = half(described) if plan.snapshot is not None else 0
        """The doorbell behind which the guest stops, if it is not there yet; the next one where it has passed."""
        self.stands: PausedGuest | None = None
        """The guest, once it has."""
        watched = Pausing(watched, self._due, self._pause)
        self._guest = Guest(self._cpu, self._code, watched, described.outs)
        if self._paused is not None:
            self._cpu.resume(self._paused.registers)

    @property
    def _done(self) -> int:
        return self._first + self.warden.doorbells

    def _due(self) -> bool:
        return 0 < self.pauses_at <= self._done < self._described.batches

    def _pause(self) -> None:
        """From inside the guest's doorbell: it ends here."""
        self.stands, self._guest.outcome = stood(
            self._described, self._done, self.warden.taken_up, self._cpu.registers(), self._canary
        )
        plan = self._plan
        if plan.snapshot is not None and plan.key is not None and isinstance(self.memory, KeptMemory):
            self.memory.snapshot(plan.snapshot, read_key(plan.key, make=True), encoded(self.stands))
        self._cpu.stop()

    def go_on(self) -> None:
        """One that stands goes on with the next `run`."""
        if self.stands is not None:
            self._cpu.resume(self.stands.registers)
            self.stands = self._guest.outcome = None

    def kick(self) -> None:
        """From any thread: a `run` that is under way ends."""
        self._cpu.kick()

    @property
    def part(self) -> slice:
        """Which of the batches were run here."""
        return slice(self._first, self._described.batches if self.stands is None else self.stands.doorbells)

    @property
    def outs(self) -> int:
        """Exits: times that the guest has written a port."""
        return self._guest.outs

    def _device(self, disk: DiskFile, opened: ExitStack, meter: Meter | None) -> LocalDevice | IsolatedDevice:
        if self._plan.isolated:
            return IsolatedDevice(self._described, self.memory, disk, self._plan.patience)
        half = opened.enter_context(HostHalf(self.memory, disk.fd, LONGEST))
        path = half.paths[self._plan.design]
        tally = HostTally({Event.TLBI: 1} if self._plan.design == "remap" else {})  # munmap's, which no memory counts
        own = meter.path(path) if meter else path
        return LocalDevice(self._described, self.memory.window, disk, own, tally, resume=self._paused is not None)

    def run(self) -> GuestReport:
        """To its end; GuestStopped for any other."""

        def go() -> GuestReport:
            with stopped_by_ctrl_c(self._cpu.kick):
                return serve(self._guest, self._plan.patience)

        return self._meter.run(go) if self._meter else go()

    def look(self, gone: bool = False) -> Sight:
        """What the host can see of the guest's secret: everything mapped here but the warden's own view, or all that
        the device's process has. gone: the guest is not here any more, so nobody has such a view."""
        if isinstance(self.device, IsolatedDevice):
            went = self.device.outlive()
            whose = f"process {self.device.pid} of the device, which has tried {len(WAYS)} ways to outlive its warden"
            sight = search_process(self._canary, self.device.pid, f"{whose}, {went} of them with success")
            if went:  # what was searched is not all there is
                sight.hits["a process that outlives its warden"] = went
            sight.core_why = "its memory was read from outside instead, as a debugger would"
            return sight
        if gone or self.memory.guest_address == self.memory.window.address:
            sight = search_process(self._canary, "self", "this process", ())
        else:
            own = ((self.memory.guest_address, self.memory.guest_address + self.memory.size),)
            sight = search_process(self._canary, "self", "this process, without the warden's own view", own)
        if self._plan.core:
            search_core(self._canary, sight)
        else:
            sight.core_why = "not asked for"
        return sight


def memory_for(plan: RunPlan, kind: str, described: Program) -> tuple[PrivateMemory, PausedGuest | None]:
    """Private memory of the plan's backing, and the guest that goes on in it, if one does."""
    use: Use = "kvm" if kind == "kvm" else "any" if plan.every or plan.design in BY_FILE_CALLS else "emulated"
    if plan.backing == "guest-memfd":
        raise UserMistake(
            "this kernel's guest_memfd converts no page, and every design shares pages as it runs; "
            "uffd-window and memfd-secret do it"
        )
    if plan.backing == "memfd-secret" and kind == "kvm":
        raise Unavailable(
            "KVM cannot run a guest in memfd_secret: it takes pages by GUP, which that refuses",
            "use --backing uffd-window, or --cpu unicorn",
        )
    if plan.kept:
        return kept_memory(plan, described)
    return PrivateMemory(memory_size(described), plan.backing, isolated=plan.isolated, use=use), None


@contextmanager
def cpu_for(kind: str, memory: PrivateMemory) -> Iterator[Cpu]:
    """A CPU of that kind over the memory, gpa 0 at its start."""
    with ExitStack() as opened:
        if kind == "unicorn":
            emulated = UnicornCpu(memory.guest_address, memory.size)
            opened.callback(gc.collect)  # its hooks and it refer to each other, and it maps a GiB
            opened.callback(emulated.close)
            yield emulated
        else:
            vm = opened.enter_context(opened.enter_context(Kvm()).create_vm())
            slots = [Slot(0, memory.size, memory.guest_address)]
            yield opened.enter_context(KvmMachine(vm, slots)).cpus[0]


class ModelMachine:
    """On the model's memory under a policy, the guest's steps interpreted."""

    backend, level = "interpreted", "no CPU: steps, not instructions"

    def __init__(self, plan: RunPlan, described: Program, disk: DiskFile, meter: Meter | None = None) -> None:
        name = "uffd-window" if plan.backing == "auto" else plan.backing
        policy = policy_of(name, plan.isolated) if name in BACKED else policy_named(name)
        self.policy = policy.name
        self._described, self._canary = described, Canary.random()
        self.part = slice(0, described.batches)
        self._secret = described.layout.end
        self.memory = ModelMemory(memory_size(described), policy)
        self.backing, self.why = self.memory.backing, "the law of that backing, no kernel involved"
        self.memory.private_write(self._secret + PAGE_SIZE, self._canary.whole() * (PAGES * PAGE_SIZE // 32))
        for gpa, content in image(described, b""):
            self.memory.populate(gpa, content)
        half: RequestPath = ModelHalf(self.memory, plan.design, disk.fd)
        path = meter.path(half) if meter else half
        self.device = LocalDevice(described, self.memory.window, disk, path, HostTally())
        notify = meter.device(self.device.notify) if meter else self.device.notify
        self.warden = Warden(meter.memory(self.memory) if meter else self.memory, [described], notify)
        self._meter = meter
        self._watched: Hypervisor = meter.hypervisor(self.warden) if meter else self.warden
        self.outs = 0

    def read(self, gpa: int, length: int) -> bytes:
        return self.memory.private_read(gpa, length)

    def write(self, gpa: int, data: bytes) -> None:
        self.memory.private_write(gpa, data)

    def hypercall(self, number: int, arguments: tuple[int, int, int]) -> int:
        self.outs += 1
        return self._watched.hypercall(number, arguments)

    def doorbell(self, queue: int) -> None:
        self.outs += 1
        self._watched.doorbell(queue)

    def run(self) -> GuestReport:
        """To its end; GuestStopped for any other."""

        def go() -> GuestReport:
            return interpret(self._described, self)

        try:
            return self._meter.run(go) if self._meter else go()
        except GuestStopped:
            raise
        except PagewardenError as error:
            raise GuestStopped(str(error), 0) from error

    def look(self, gone: bool = False) -> Sight:
        """The host's view, page by page, as the law lets it."""
        sight = Sight("the model's host view", mappings=1, core_why="the model has no process")
        for gpa in range(0, self.memory.size, PAGE_SIZE):
            try:
                found = self.memory.window.read(gpa, PAGE_SIZE).count(self._canary.whole())
            except PrivateAccess:
                sight.unreadable += PAGE_SIZE
                continue
            sight.bytes += PAGE_SIZE
            if found:
                sight.hits["window"] = sight.hits.get("window", 0) + found
        return sight


RunMachine = LiveMachine | ModelMachine


def chosen_cpu(name: str) -> tuple[str, str]:
    """The CPU that is meant, and why."""
    if name != "auto":
        return name, "asked for"
    if importlib.util.find_spec("unicorn") is not None:
        return "unicorn", "needs no privileges and runs any backing"
    try:
        Kvm().close()
    except Unavailable as lacking:
        return "interpreted", f"unicorn is not installed, and {lacking}"
    return "kvm", "unicorn is not installed"


@contextmanager
def machine_for(plan: RunPlan, described: Program, disk: DiskFile, meter: Meter | None = None) -> Iterator[RunMachine]:
    """The plan's machine; Unavailable, UserMistake."""
    if chosen_cpu(plan.cpu)[0] == "interpreted":
        yield ModelMachine(plan, described, disk, meter)
    else:
        with live_machine(plan, described, disk, meter) as machine:
            yield machine


@contextmanager
def live_machine(
    plan: RunPlan, described: Program, disk: DiskFile, meter: Meter | None = None,
    came: tuple[PrivateMemory, PausedGuest] | None = None,
) -> Iterator[LiveMachine]:  # fmt: skip
    """The same on a real CPU. came: a guest that goes on, in its memory, which is closed with the machine."""
    with ExitStack() as opened:
        yield LiveMachine(plan, chosen_cpu(plan.cpu)[0], described, disk, opened, meter, came)
