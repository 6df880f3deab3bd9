"""A guest of pKVM: a protected VM of one vCPU that talks to its VMM by MMIO."""

import ctypes
import errno
from ctypes import byref, c_uint64

from pagewarden.abi import kvm as uapi
from pagewarden.abi import kvm_arm64 as arm
from pagewarden.kernel.door import ioctl, ioctl_opened
from pagewarden.kernel.kvm import Kvm, Vcpu, Vm
from pagewarden.vocab import Unavailable


class ProtectedGuest(Vm):
    """A VM of that type, which starts at a gpa; it has no memory before `set_user_memory_region`, and no vCPU before it
    is run. Unavailable where this KVM makes none."""

    def __init__(self, device: Kvm, start: int, kind: int = arm.KVM_VM_TYPE_ARM_PROTECTED) -> None:
        try:
            super().__init__(device.create_vm_fd(kind), device.get_vcpu_mmap_size())
        except OSError as error:
            advice = "needs an arm64 kernel with kvm-arm.mode=protected and protected VMs (Debian's 7.3 has them)"
            raise Unavailable(f"KVM makes no protected VM ({error})", advice) from error
        self._start = start
        self._vcpu: Vcpu | None = None

    @property
    def vcpu(self) -> Vcpu:
        """The one vCPU."""
        if self._vcpu is None:
            self._vcpu = Vcpu(ioctl_opened(self.fd, uapi.KVM_CREATE_VCPU, 0), self._vcpu_mmap_size)
            wanted = arm.kvm_vcpu_init()
            self._ioctl(arm.KVM_ARM_PREFERRED_TARGET, byref(wanted))
            wanted.features[0] |= 1 << arm.KVM_ARM_VCPU_PSCI_0_2
            ioctl(self._vcpu.fd, arm.KVM_ARM_VCPU_INIT, byref(wanted))
            self.set_register(arm.PC, self._start)
        return self._vcpu

    def run(self) -> uapi.kvm_run_mmio:
        """Enter the guest until its next MMIO access, whose answer is completed by the next run. OSError: KVM_RUN's,
        after which the guest starts anew, or EPROTO for another exit."""
        while True:
            try:
                self.vcpu.run()
            except InterruptedError:
                continue
            except OSError:
                self.set_register(arm.PC, self._start)
                raise
            if self.vcpu.kvm_run.exit_reason != uapi.KVM_EXIT_MMIO:
                raise OSError(errno.EPROTO, f"exit {self.vcpu.kvm_run.exit_reason}")
            mmio: uapi.kvm_run_mmio = self.vcpu.kvm_run.exit.mmio
            return mmio

    def set_register(self, register: int, value: int) -> None:
        """KVM_SET_ONE_REG; OSError."""
        word = c_uint64(value)
        ioctl(self.vcpu.fd, arm.KVM_SET_ONE_REG, byref(arm.kvm_one_reg(register, ctypes.addressof(word))))

    def get_register(self, register: int) -> int:
        """KVM_GET_ONE_REG; OSError."""
        word = c_uint64()
        ioctl(self.vcpu.fd, arm.KVM_GET_ONE_REG, byref(arm.kvm_one_reg(register, ctypes.addressof(word))))
        return word.value

    def close(self) -> None:
        if self._vcpu is not None:
            self._vcpu.close()
            self._vcpu = None
        super().close()
