"""An emulated vCPU (Unicorn): no privileges needed, any memory of this process, a stage-2 that really caches.

The guest's memory is mapped where it is, nothing is copied. An OUT is answered inside Unicorn's hook: after a stop it
would first finish the block of instructions that it is in, so the answer would come too late.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from pagewarden.abi.kvm_x86 import USER_RFLAGS
from pagewarden.guest import stage2 as table
from pagewarden.guest.stage2 import Stage2
from pagewarden.vocab import PAGE_SIZE, Exit, ExitKind, InternalError, Unavailable

_NEEDED = {16: table.READ, 17: table.WRITE, 18: table.EXECUTE}
"""Permission for each kind of access that a TLB fill is asked for (uc_mem_type UC_MEM_READ, _WRITE, _FETCH)."""


_GENERAL = ("RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RSP", "RBP", *(f"R{n}" for n in range(8, 16)))


class UnicornCpu:
    """port.Cpu over the `size` bytes at address `hva`, which must stay mapped until `close`. gva = gpa.

    Interleave several on one thread: Unicorn's LOCK prefix is not atomic between instances.
    """

    backend = "unicorn"

    def __init__(self, hva: int, size: int, stage2: Stage2 | None = None) -> None:
        self.stage2 = Stage2(size // PAGE_SIZE) if stage2 is None else stage2
        if size % PAGE_SIZE or len(self.stage2.permissions) * PAGE_SIZE != size:
            raise ValueError(f"a memory of {size} bytes, a stage-2 of {len(self.stage2.permissions)} pages")
        self._unicorn, self._const, self._x86 = _modules()
        self._uc: Any = self._engine(hva, size)
        self._hook()
        self.stage2.attach(self._forget)
        self.level = f"CPL{self._uc.reg_read(self._x86.UC_X86_REG_CS) & 3}, emulated"
        self._out: Callable[[int, int], None] = _nobody
        self._rip = self._ahead = 0
        self._kicked = False
        self._fault: int | None = None
        self._end: Exit | None = None
        self._raised: BaseException | None = None

    def start(self, rip: int) -> None:
        """See port.Cpu."""
        self.resume((*[0] * len(_GENERAL), rip, USER_RFLAGS))

    def resume(self, registers: Sequence[int]) -> None:
        """See port.Cpu."""
        *general, self._rip, flags = registers
        for name, value in zip((*_GENERAL, "EFLAGS"), (*general, flags), strict=True):
            self._uc.reg_write(getattr(self._x86, f"UC_X86_REG_{name}"), value)

    def registers(self) -> tuple[int, ...]:
        """See port.Cpu."""
        general = [self._uc.reg_read(getattr(self._x86, f"UC_X86_REG_{name}")) for name in _GENERAL]
        return *general, self.rip() + self._ahead, self._uc.reg_read(self._x86.UC_X86_REG_EFLAGS)

    def run(self, out: Callable[[int, int], None], budget: int = 0) -> Exit:
        """See port.Cpu. With a budget of instructions it may end as SLICE, and some five times slower; a HLT then looks
        like the end of the slice, and the next one goes on behind it."""
        self._out, self._end, self._fault, self._raised = out, None, None, None
        if not self._kicked:
            self._emulate(budget)
        if self._raised is not None:
            raise self._raised
        kicked, self._kicked = self._kicked, False
        if self._end is not None:
            return self._end
        if kicked:
            return Exit(ExitKind.KICKED)
        return Exit(ExitKind.SLICE) if budget else Exit(ExitKind.HALT, "HLT")

    def _emulate(self, budget: int) -> None:
        try:
            self._uc.emu_start(self._rip, 0, count=budget)
        except self._unicorn.UcError as error:
            self._end = self._end or self._failure(error)  # after a stop: whatever the rest of the block met
        finally:
            self._rip = self._uc.reg_read(self._x86.UC_X86_REG_RIP)

    def _failure(self, error: Exception) -> Exit:
        if self._fault is None:
            return Exit(ExitKind.CRASH, str(error))
        return Exit(ExitKind.FAULT, "stage-2 does not give it", self._fault)

    def arguments(self) -> tuple[int, int, int]:
        """rdi, rsi, r10."""
        read, x86 = self._uc.reg_read, self._x86
        return read(x86.UC_X86_REG_RDI), read(x86.UC_X86_REG_RSI), read(x86.UC_X86_REG_R10)

    def reply(self, value: int) -> None:
        self._uc.reg_write(self._x86.UC_X86_REG_RAX, value & (1 << 64) - 1)

    def stop(self) -> None:
        """From inside `out`. The rest of the block, up to the next jump, still runs."""
        self._finish(Exit(ExitKind.ENDED))

    def rip(self) -> int:
        return int(self._uc.reg_read(self._x86.UC_X86_REG_RIP))

    def kick(self) -> None:
        """See port.Cpu. One that meets the very start of a run is lost: whoever must be sure repeats it."""
        self._kicked = True
        self._uc.emu_stop()

    def close(self) -> None:
        """Forget the mapping. Not while it runs. Twice is once."""
        if self._uc is not None:
            self.stage2.detach(self._forget)
            self._uc = None

    def _engine(self, hva: int, size: int) -> Any:
        const = self._const
        uc = self._unicorn.Uc(const.UC_ARCH_X86, const.UC_MODE_64)
        uc.ctl_set_tlb_mode(const.UC_TLB_VIRTUAL)
        uc.ctl_exits_enabled(True)  # no address ends the run
        uc.ctl_set_exits([])
        uc.mem_map_ptr(0, size, const.UC_PROT_ALL, hva)
        return uc

    def _hook(self) -> None:
        hook, const, x86 = self._uc.hook_add, self._const, self._x86
        hook(const.UC_HOOK_TLB_FILL, self._translate)
        hook(const.UC_HOOK_INSN, self._port_write, None, 1, 0, x86.UC_X86_INS_OUT)
        hook(const.UC_HOOK_INSN, self._port_read, None, 1, 0, x86.UC_X86_INS_IN)
        hook(const.UC_HOOK_INTR, self._interrupt)

    def _translate(self, _uc: Any, gva: int, access: int, entry: Any, _data: object) -> bool:
        gfn = gva // PAGE_SIZE
        permissions = int(self.stage2.permissions[gfn]) if gfn < len(self.stage2.permissions) else table.NONE
        if not permissions & _NEEDED[access]:
            self._fault = gva
            return False
        entry.paddr, entry.perms = gfn * PAGE_SIZE, permissions  # Unicorn's permission bits are the table's
        return True

    def _port_write(self, _uc: Any, port: int, size: int, value: int, _data: object) -> None:
        if self._end is not None:
            return  # the rest of the block after a stop
        if size != 4:
            self._finish(Exit(ExitKind.CRASH, f"an OUT of {size} bytes, not 4"))
            return
        self._ahead = 1  # the OUT has a byte, and it is where the hook finds rip
        try:
            self._out(port, value)
        except BaseException as error:  # not through Unicorn: it would lose it if the rest of the block fails
            self._raised = error
            self.stop()
        finally:
            self._ahead = 0

    def _port_read(self, _uc: Any, port: int, _size: int, _data: object) -> int:
        self._finish(Exit(ExitKind.CRASH, f"IN from port {port:#x}"))
        return 0

    def _interrupt(self, _uc: Any, number: int, _data: object) -> None:
        self._finish(Exit(ExitKind.CRASH, f"exception or interrupt {number} without a handler"))

    def _finish(self, end: Exit) -> None:
        self._end = self._end or end
        self._uc.emu_stop()

    def _forget(self) -> None:
        self._uc.ctl(self._const.UC_CTL_TLB_FLUSH, self._const.UC_CTL_IO_WRITE)


def _nobody(port: int, value: int) -> None:
    raise InternalError(f"port {port:#x} was written outside a run")


def _modules() -> tuple[Any, Any, Any]:
    """The binding, its constants, and those of x86."""
    names = ("unicorn", "unicorn.unicorn_const", "unicorn.x86_const")
    try:
        binding, const, x86 = map(importlib.import_module, names)
    except ImportError as error:
        raise Unavailable("unicorn is not installed", "pip install pagewarden[guest]") from error
    return binding, const, x86
