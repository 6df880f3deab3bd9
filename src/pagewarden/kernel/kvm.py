"""Handles on KVM (Documentation/virt/kvm/api.rst): a class for each kind of file descriptor, a method for each ioctl.

Every handle is a context manager and closes once. A failed ioctl is OSError, a missing feature Unavailable.
"""

import ctypes
import errno
import os
from contextlib import suppress
from ctypes import Structure
from pathlib import Path

from pagewarden.abi import kvm as uapi
from pagewarden.kernel import door
from pagewarden.kernel.door import Descriptor
from pagewarden.vocab import Unavailable
from pagewarden.vocab.closing import Closing

DEVICE = "/dev/kvm"
PATIENCE = 100
"""Times that KVM_CREATE_VM is tried when it is interrupted."""


def backend() -> str:
    """Name of the module that does KVM's work here (kvm_intel, kvm_amd, a software one), "kvm" when it is built in."""
    modules = sorted(path.name for path in Path("/sys/module").glob("kvm_*"))
    return "+".join(modules) or "kvm"


class _Handle(Closing):
    """Owner of one file descriptor."""

    def __init__(self, own: Descriptor) -> None:
        self._own = own

    @property
    def fd(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._own.fd

    def close(self) -> None:
        """Close the descriptor. Twice is once."""
        self._own.close()

    def _ioctl(self, request: int, argument: object = None) -> int:
        return door.ioctl(self.fd, request, argument)


class Kvm(_Handle):
    """/dev/kvm."""

    def __init__(self) -> None:
        try:
            super().__init__(door.opened_path(DEVICE, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise Unavailable(f"{DEVICE}: {os.strerror(error.errno or 0)}", _device_advice(error.errno)) from error
        self._check()

    def _check(self) -> None:
        version = self._ioctl(uapi.KVM_GET_API_VERSION)
        if version != uapi.KVM_API_VERSION:
            raise Unavailable(f"KVM API version {version}, not {uapi.KVM_API_VERSION}", "use a kernel since 2.6.22")

    def check_extension(self, capability: int) -> int:
        """What the kernel answers for a KVM_CAP_*: 0 when it lacks it."""
        return self._ioctl(uapi.KVM_CHECK_EXTENSION, capability)

    def get_vcpu_mmap_size(self) -> int:
        """Bytes of a vCPU's mapping, which starts with struct kvm_run."""
        return self._ioctl(uapi.KVM_GET_VCPU_MMAP_SIZE)

    def get_supported_cpuid(self) -> Structure:
        """What CPUID may say in a guest here (abi.kvm.cpuid2_of): all that KVM and this CPU have."""
        cpuid = uapi.cpuid2_of(uapi.KVM_MAX_CPUID_ENTRIES)
        self._ioctl(uapi.KVM_GET_SUPPORTED_CPUID, ctypes.byref(cpuid))
        return cpuid

    def create_vm(self) -> "Vm":
        """A VM of the default type on x86; Unavailable. Its vCPUs have all that KVM supports here: without a CPUID that
        says long mode there is none (arch/x86/kvm/x86.c, kvm_is_valid_sregs)."""
        if not self.check_extension(uapi.KVM_CAP_SYNC_REGS) & uapi.KVM_SYNC_X86_REGS:
            raise Unavailable("KVM lacks KVM_CAP_SYNC_REGS", "use a kernel since 4.17, on x86")
        try:
            size, cpuid = self.get_vcpu_mmap_size(), self.get_supported_cpuid()
            return Vm(self.create_vm_fd(), size, cpuid)
        except OSError as error:
            raise Unavailable(f"{backend()} makes no virtual machine ({error})", "see the kernel's log") from error

    def create_vm_fd(self, kind: int = 0) -> Descriptor:
        """The bare descriptor of one; OSError. kind: its type, a bit of KVM_CAP_VM_TYPES. Work that is pending for this
        task, of a closed io_uring say, interrupts the call (seen on Linux 6.18): it is tried again."""
        for _ in range(PATIENCE):
            with suppress(InterruptedError):
                return door.ioctl_opened(self.fd, uapi.KVM_CREATE_VM, kind)
        return door.ioctl_opened(self.fd, uapi.KVM_CREATE_VM, kind)


def _device_advice(code: int | None) -> str:
    if code in (errno.EACCES, errno.EPERM):
        return "join the group that owns it (usually kvm), or run as root"
    return "load a KVM module (modprobe kvm_intel or kvm_amd), or use the unicorn CPU"


class Vm(_Handle):
    """A virtual machine."""

    def __init__(self, own: Descriptor, vcpu_mmap_size: int, cpuid: Structure | None = None) -> None:
        super().__init__(own)
        self._vcpu_mmap_size, self._cpuid = vcpu_mmap_size, cpuid

    def set_user_memory_region(self, slot: int, gpa: int, size: int, hva: int, flags: int = 0) -> None:
        """A memslot: gpas [gpa, gpa + size) are the bytes at hva; size 0 deletes it."""
        region = uapi.kvm_userspace_memory_region(slot, flags, gpa, size, hva)
        self._ioctl(uapi.KVM_SET_USER_MEMORY_REGION, ctypes.byref(region))

    def set_user_memory_region2(self, slot: int, gpa: int, size: int, hva: int, guest_memfd: int, offset: int) -> None:
        """A memslot over guest_memfd pages from this offset of the file. It cannot be changed, only deleted."""
        region = uapi.kvm_userspace_memory_region2(slot, uapi.KVM_MEM_GUEST_MEMFD, gpa, size, hva, offset, guest_memfd)
        self._ioctl(uapi.KVM_SET_USER_MEMORY_REGION2, ctypes.byref(region))

    def create_vcpu(self, number: int = 0) -> "Vcpu":
        """The vCPU of this number; from now on it belongs to the thread that runs it."""
        vcpu = Vcpu(door.ioctl_opened(self.fd, uapi.KVM_CREATE_VCPU, number), self._vcpu_mmap_size)
        try:
            if self._cpuid is not None:
                vcpu.set_cpuid2(self._cpuid)
        except BaseException:
            vcpu.close()
            raise
        return vcpu


class Vcpu(_Handle):
    """A virtual CPU and the kvm_run page it shares with us."""

    def __init__(self, own: Descriptor, mmap_size: int) -> None:
        super().__init__(own)
        self._mmap_size = mmap_size
        self._address = door.map_anywhere(mmap_size, self.fd, 0)
        self.kvm_run = uapi.kvm_run.from_address(self._address)
        self.kvm_run.kvm_valid_regs = uapi.KVM_SYNC_X86_REGS  # each exit brings the registers: no ioctl to read them

    def run(self) -> None:
        """Enter the guest until its next exit. OSError EINTR for a signal, EFAULT for memory KVM cannot give it."""
        self._ioctl(uapi.KVM_RUN)

    def io_value(self) -> int:
        """The number that an OUT of 1, 2 or 4 bytes wrote."""
        io = self.kvm_run.exit.io
        if io.data_offset + io.size > self._mmap_size:
            raise OSError(errno.EPROTO, f"KVM_EXIT_IO data at {io.data_offset:#x}, past the vCPU's mapping")
        return int.from_bytes(ctypes.string_at(self._address + io.data_offset, io.size), "little")

    def get_regs(self) -> uapi.kvm_regs:
        regs = uapi.kvm_regs()
        self._ioctl(uapi.KVM_GET_REGS, ctypes.byref(regs))
        return regs

    def set_regs(self, regs: uapi.kvm_regs) -> None:
        self._ioctl(uapi.KVM_SET_REGS, ctypes.byref(regs))

    def get_sregs(self) -> uapi.kvm_sregs:
        sregs = uapi.kvm_sregs()
        self._ioctl(uapi.KVM_GET_SREGS, ctypes.byref(sregs))
        return sregs

    def set_sregs(self, sregs: uapi.kvm_sregs) -> None:
        self._ioctl(uapi.KVM_SET_SREGS, ctypes.byref(sregs))

    def set_cpuid2(self, cpuid: Structure) -> None:
        """What CPUID says in the guest (abi.kvm.cpuid2_of); before the first run."""
        self._ioctl(uapi.KVM_SET_CPUID2, ctypes.byref(cpuid))

    def set_signal_mask(self, blocked: int) -> None:
        """The signals blocked while the guest runs, as a bit set: bit n - 1 is signal n."""
        mask = uapi.kvm_signal_mask(8, blocked)
        self._ioctl(uapi.KVM_SET_SIGNAL_MASK, ctypes.byref(mask))

    def close(self) -> None:
        if self.fd >= 0:
            door.unmap(self._address, self._mmap_size)
            del self.kvm_run
        super().close()
