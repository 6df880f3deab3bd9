"""A KVM virtual machine as CPUs that run a guest's code: 64-bit long mode, CPL 3, gva = gpa, every port by IOPL 3.

Page tables and TSS live in a memslot of their own behind the guest's memory, so the guest's bytes are the same under
every CPU. A real exit is told apart from a kick by the flag that `kick` sets.
"""

import contextlib
import errno
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pagewarden.abi import kvm as uapi
from pagewarden.abi import kvm_x86
from pagewarden.kernel.kvm import Vcpu, Vm, backend
from pagewarden.kernel.machine import need_x86_64
from pagewarden.kernel.region import Region
from pagewarden.vocab import HUGE_PAGE, Exit, ExitKind, Unavailable
from pagewarden.vocab.closing import Closing
from pagewarden.vocab.host import REMEDIES

KICK = signal.SIGURG
"""Sent to a vCPU's thread: blocked there except inside KVM_RUN, ignored by default, so a late one harms nobody."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A memslot: bytes of this process at hva, or pages of a guest_memfd from `offset` of the file."""

    gpa: int
    size: int
    hva: int
    guest_memfd: int = -1  # its fd
    offset: int = 0


class KvmMachine(Closing):
    """Memslots and CPUs of a VM. Closes everything that it opened, in order; VM and memory are the caller's.

    OSError when KVM refuses a memslot, Unavailable when it makes no vCPU of this kind.
    """

    def __init__(self, vm: Vm, slots: Sequence[Slot], vcpus: int = 1) -> None:
        need_x86_64("KVM as it is used here")
        with contextlib.ExitStack() as opened:
            for number, slot in enumerate(slots):
                _add(vm, number, slot)
                opened.callback(vm.set_user_memory_region, number, slot.gpa, 0, 0)
            system = _SystemPages(max(slot.gpa + slot.size for slot in slots))
            opened.callback(system.region.close)
            vm.set_user_memory_region(len(slots), system.gpa, system.region.size, system.region.address)
            opened.callback(vm.set_user_memory_region, len(slots), system.gpa, 0, 0)
            self.cpus = [_cpu(vm, number, system, opened) for number in range(vcpus)]
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Release vCPUs and page tables. Not while a CPU runs. Twice is once."""
        self._opened.close()


def _add(vm: Vm, number: int, slot: Slot) -> None:
    if slot.guest_memfd < 0:
        vm.set_user_memory_region(number, slot.gpa, slot.size, slot.hva)
    else:
        vm.set_user_memory_region2(number, slot.gpa, slot.size, slot.hva, slot.guest_memfd, slot.offset)


def _cpu(vm: Vm, number: int, system: "_SystemPages", opened: contextlib.ExitStack) -> "KvmCpu":
    """A CPU that KVM has taken the mode of; Unavailable, whatever it has against it."""
    try:
        return KvmCpu(opened.enter_context(vm.create_vcpu(number)), system)
    except OSError as error:
        raise Unavailable(
            f"{backend()} makes no vCPU {number} in 64-bit user mode ({error})",
            "use the unicorn CPU; that KVM may be nested, or lack long mode",
        ) from error


class _SystemPages:
    """Page tables and TSS, at the first 2 MiB boundary behind the guest's memory."""

    def __init__(self, end: int) -> None:
        self.gpa = -(-end // HUGE_PAGE) * HUGE_PAGE
        content, self.tss, self.tss_limit = kvm_x86.system_pages(end, self.gpa)
        self.region = Region(len(content))
        self.region.memory[:] = content


class KvmCpu:
    """One vCPU; port.Cpu. Run it from one thread at a time."""

    level = "CPL3"

    def __init__(self, vcpu: Vcpu, system: _SystemPages) -> None:
        self.backend = backend()
        self._vcpu = vcpu
        self._stopping = self._kicked = False
        self._known_rip = 0  # of the start or the last exit
        self._gone_on = False  # are the registers no longer that exit's?
        self._thread: int | None = None
        self._door = threading.Lock()  # between kick and the end of run: the thread must still be there
        self._sregs = vcpu.get_sregs()
        kvm_x86.user_mode(self._sregs, system.gpa, system.tss, system.tss_limit)
        vcpu.set_sregs(self._sregs)  # now, where a refusal can still be told: `start` sets them again

    def start(self, rip: int) -> None:
        """See port.Cpu; whatever the last run left behind (half an OUT, a shutdown) is dropped."""
        self.resume((*[0] * 16, rip, kvm_x86.USER_RFLAGS))

    def resume(self, registers: Sequence[int]) -> None:
        """See port.Cpu."""
        self._complete()
        self._vcpu.set_sregs(self._sregs)
        self._vcpu.set_regs(regs := uapi.kvm_regs(*registers))
        self._known_rip, self._gone_on = regs.rip, False

    def registers(self) -> tuple[int, ...]:
        """See port.Cpu."""
        self._complete()
        regs = self._vcpu.get_regs()
        return tuple(getattr(regs, name) for name, *_ in regs._fields_)

    def _complete(self) -> None:
        """KVM_RUN completes the pending access and returns."""
        self._vcpu.kvm_run.immediate_exit = 1
        with contextlib.suppress(OSError):
            self._vcpu.run()
        self._vcpu.kvm_run.immediate_exit = int(self._kicked)

    def run(self, out: Callable[[int, int], None]) -> Exit:
        """See port.Cpu. The process's signals reach this thread as usual meanwhile."""
        self._stopping = False
        with self._interruptible():
            while True:
                end = self._enter() or self._handle(out)
                if end is not None:
                    return end

    def _enter(self) -> Exit | None:
        """One KVM_RUN; an Exit if it failed, or was kicked."""
        self._vcpu.kvm_run.exit_reason = uapi.KVM_EXIT_UNKNOWN  # KVM leaves the old one when it fails
        try:
            self._vcpu.run()
            return None
        except OSError as error:
            if error.errno == errno.EINTR:
                return self._interrupted()
            return self._denied(error)

    def _interrupted(self) -> Exit | None:
        while signal.sigtimedwait({KICK}, 0) is not None:
            pass
        self._vcpu.kvm_run.immediate_exit = 0
        kicked, self._kicked = self._kicked, False
        return Exit(ExitKind.KICKED) if kicked else None

    def _denied(self, error: OSError) -> Exit:
        run = self._vcpu.kvm_run
        if error.errno in (errno.EAGAIN, errno.ENOMEM):  # a first run makes threads and tables: the host is short
            raise Unavailable(f"KVM_RUN: {error.strerror}", REMEDIES[error.errno])
        if run.exit_reason != uapi.KVM_EXIT_MEMORY_FAULT:
            why = f"KVM_RUN failed, {errno.errorcode.get(error.errno or 0)}"
            if error.errno in (errno.EFAULT, uapi.EHWPOISON):
                why += (
                    ": KVM cannot take the memory from this host mapping (GUP is refused, or nothing is mapped there)"
                )
            return Exit(ExitKind.CRASH, why)
        fault = run.exit.memory_fault
        side = "private" if fault.flags & uapi.KVM_MEMORY_EXIT_FLAG_PRIVATE else "shared"
        return Exit(ExitKind.FAULT, f"KVM_EXIT_MEMORY_FAULT, {side}, {fault.size} bytes", fault.gpa)

    def _handle(self, out: Callable[[int, int], None]) -> Exit | None:
        """Serve the exit that KVM_RUN returned with; an Exit if the guest cannot go on."""
        run = self._vcpu.kvm_run
        if run.exit_reason == uapi.KVM_EXIT_INTR:
            return None
        if run.exit_reason == uapi.KVM_EXIT_SHUTDOWN:
            return self._crashed()
        if run.exit_reason != uapi.KVM_EXIT_IO or run.exit.io.direction != uapi.KVM_EXIT_IO_OUT:
            end = _END.get(run.exit_reason, _unknown)(self._vcpu)
            self._known_rip, self._gone_on = run.s.regs.rip, True
            self._complete()  # now: what IN, INS and loads bring would be written over what comes next
            return end
        if run.exit.io.size != 4 or run.exit.io.count != 1:
            return Exit(ExitKind.CRASH, f"{run.exit.io.count} OUTs of {run.exit.io.size} bytes, not one of 4")
        self._known_rip = run.s.regs.rip
        out(run.exit.io.port, self._vcpu.io_value())
        return Exit(ExitKind.ENDED) if self._stopping else None

    def _crashed(self) -> Exit:
        """A triple fault. KVM on AMD resets the vCPU before it tells (arch/x86/kvm/svm/svm.c, shutdown_interception):
        what the registers say then is the reset's, so the last place known is named instead."""
        sregs = self._vcpu.get_sregs()
        self._gone_on = not sregs.cr0 & kvm_x86.CR0_PG
        why = "KVM_EXIT_SHUTDOWN: an exception without a handler (triple fault)"
        if self._gone_on:
            return Exit(ExitKind.CRASH, f"{why}; KVM has reset the vCPU, so rip is that of its last exit")
        return Exit(ExitKind.CRASH, why, sregs.cr2 or None)

    def arguments(self) -> tuple[int, int, int]:
        """rdi, rsi, r10, as the exit brought them."""
        regs = self._vcpu.kvm_run.s.regs
        return regs.rdi, regs.rsi, regs.r10

    def reply(self, value: int) -> None:
        """Put the answer into rax, from inside `out`."""
        self._vcpu.kvm_run.s.regs.rax = value & (1 << 64) - 1
        self._vcpu.kvm_run.kvm_dirty_regs = uapi.KVM_SYNC_X86_REGS

    def stop(self) -> None:
        """From inside `out`: let run return ENDED."""
        self._stopping = True

    def rip(self) -> int:
        """See port.Cpu; where KVM has gone on, or reset the vCPU, the last one known before."""
        return self._known_rip if self._gone_on else int(self._vcpu.get_regs().rip)

    def kick(self) -> None:
        """See port.Cpu."""
        with self._door:
            self._kicked = True
            if self._vcpu.fd >= 0:
                self._vcpu.kvm_run.immediate_exit = 1
            if self._thread is not None:
                signal.pthread_kill(self._thread, KICK)

    def close(self) -> None:
        """Release the vCPU; its machine may do it as well."""
        with self._door:
            self._vcpu.close()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Block the kick on this thread and let KVM_RUN alone receive it."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {KICK})
        self._vcpu.set_signal_mask(sum(1 << (number - 1) for number in before if number != KICK))
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            with self._door:
                self._thread = None
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _mmio(vcpu: Vcpu) -> Exit:
    mmio = vcpu.kvm_run.exit.mmio
    return Exit(
        ExitKind.FAULT,
        f"KVM_EXIT_MMIO, {'store' if mmio.is_write else 'load'} of {mmio.len} bytes outside "
        "the memslots, or in memory that this KVM cannot emulate on",
        mmio.phys_addr,
    )


def _internal(vcpu: Vcpu) -> Exit:
    return Exit(ExitKind.CRASH, f"KVM_EXIT_INTERNAL_ERROR, suberror {vcpu.kvm_run.exit.internal.suberror}")


def _refused_entry(vcpu: Vcpu) -> Exit:
    reason = vcpu.kvm_run.exit.fail_entry.hardware_entry_failure_reason
    return Exit(ExitKind.CRASH, f"KVM_EXIT_FAIL_ENTRY, hardware reason {reason:#x}")


def _unknown(vcpu: Vcpu) -> Exit:
    return Exit(ExitKind.CRASH, f"KVM exit reason {vcpu.kvm_run.exit_reason}, which no guest program causes")


_END: dict[int, Callable[[Vcpu], Exit]] = {
    uapi.KVM_EXIT_IO: lambda vcpu: Exit(ExitKind.CRASH, f"IN from port {vcpu.kvm_run.exit.io.port:#x}"),
    uapi.KVM_EXIT_HLT: lambda vcpu: Exit(ExitKind.HALT, "HLT"),
    uapi.KVM_EXIT_MMIO: _mmio,
    uapi.KVM_EXIT_INTERNAL_ERROR: _internal,
    uapi.KVM_EXIT_FAIL_ENTRY: _refused_entry,
}
"""Exits that end a guest program, by reason."""
