"""KVM on arm64 (arch/arm64/include/uapi/asm/kvm.h, include/uapi/linux/kvm.h), names verbatim; only what is used."""

from ctypes import Structure, c_uint32, c_uint64

KVM_VM_TYPE_ARM_PROTECTED = 1 << 31
KVM_ARM_VCPU_PSCI_0_2 = 2
KVM_REG_ARM64, KVM_REG_SIZE_U64, KVM_REG_ARM_CORE = 0x6000_0000_0000_0000, 0x0030_0000_0000_0000, 0x0010_0000


def core_register(number: int) -> int:
    """KVM_REG_ARM_CORE of x0 to x30, sp (31) and pc (32): counted in 32-bit words from the start of kvm_regs."""
    return KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | 2 * number


PC = core_register(32)


class kvm_vcpu_init(Structure):
    _fields_ = (("target", c_uint32), ("features", c_uint32 * 7))


class kvm_one_reg(Structure):
    _fields_ = (("id", c_uint64), ("addr", c_uint64))


class kvm_pre_fault_memory(Structure):
    _fields_ = (("gpa", c_uint64), ("size", c_uint64), ("flags", c_uint64), ("padding", c_uint64 * 5))


KVM_GET_ONE_REG = 0x4010AEAB
KVM_SET_ONE_REG = 0x4010AEAC
KVM_ARM_VCPU_INIT = 0x4020AEAE
KVM_ARM_PREFERRED_TARGET = 0x8020AEAF
KVM_PRE_FAULT_MEMORY = 0xC040AED5
