"""What a call answers to its arguments alone, before it gets to a page: the errors of ranges, sizes and flags.

The rules of a page are in `rules`; a call that is not refused here does to each page of its range what they say. Sizes,
offsets and addresses are bytes.
"""

from collections.abc import Collection
from enum import StrEnum

from pagewarden.law.step import Outcome
from pagewarden.vocab import PAGE_SIZE

MMAP, INIT_SHARED = 1, 2
"""GUEST_MEMFD_FLAG_* (include/uapi/linux/kvm.h)."""
KEEP_SIZE, PUNCH_HOLE = 1, 2
"""FALLOC_FL_* (include/uapi/linux/falloc.h)."""
LOG_DIRTY_PAGES, READONLY, GUEST_MEMFD = 1, 2, 4
"""KVM_MEM_* (include/uapi/linux/kvm.h)."""
PRIVATE = 8
"""KVM_MEMORY_ATTRIBUTE_PRIVATE."""
CLOEXEC = 0o2000000
WORD = 1 << 64
CHUNK = 512
"""Pages of a block one level above a page: 2 MiB of 4 KiB."""
INVALID_PARAMETER = -3
"""SMCCC_RET_INVALID_PARAMETER."""


def _aligned(*values: int) -> bool:
    return all(value % PAGE_SIZE == 0 for value in values)


def _unless(wrong: bool, outcome: Outcome) -> Outcome:
    return outcome if wrong else Outcome.DONE


def gmem_create(size: int, flags: int = 0, offered: int = MMAP | INIT_SHARED) -> Outcome:
    """KVM_CREATE_GUEST_MEMFD (guest_memfd.c kvm_gmem_create). offered: KVM_CAP_GUEST_MEMFD_FLAGS."""
    return _unless(bool(flags & ~offered) or size <= 0 or not _aligned(size), Outcome.EINVAL)


def gmem_mmap(flags: int, shared: bool = True) -> Outcome:
    """mmap of a guest_memfd (guest_memfd.c kvm_gmem_mmap)."""
    if not flags & MMAP:
        return Outcome.ENODEV
    return _unless(not shared, Outcome.EINVAL)


def gmem_fallocate(file: int, mode: int, offset: int, length: int, signalled: bool = False) -> Outcome:
    """fallocate of a guest_memfd of so many bytes (guest_memfd.c kvm_gmem_fallocate).
    A length of 0 gets no further than fs/open.c, vfs_fallocate."""
    if not mode & KEEP_SIZE or mode & ~(KEEP_SIZE | PUNCH_HOLE):
        return Outcome.EOPNOTSUPP
    if offset < 0 or length <= 0 or not _aligned(offset, length):
        return Outcome.EINVAL
    if mode & PUNCH_HOLE:
        return Outcome.DONE
    if offset + length > file:
        return Outcome.EINVAL
    return _unless(signalled, Outcome.EINTR)


def gmem_resize() -> Outcome:
    """ftruncate, and any other change of a guest_memfd's attributes (guest_memfd.c kvm_gmem_setattr)."""
    return Outcome.EINVAL


def host_fault(file: int, offset: int) -> Outcome:
    """A touch of a mapping at an offset of the file (guest_memfd.c kvm_gmem_fault_user_mapping, secretmem.c
    secretmem_fault): what lies inside, its page decides."""
    return _unless(offset >= file, Outcome.SIGBUS)


class FileKind(StrEnum):
    """What a descriptor is, that a memslot is to be over."""

    NONE = "no descriptor"
    OTHER = "any other file"
    FOREIGN = "another VM's guest_memfd"
    OWN = "this VM's guest_memfd"


def memslot_flags(flags: int, version: int = 2) -> Outcome:
    """KVM_SET_USER_MEMORY_REGION, or version 2 (kvm_main.c check_memory_region_flags)."""
    valid = LOG_DIRTY_PAGES | READONLY | (GUEST_MEMFD if version == 2 else 0)
    if flags & GUEST_MEMFD and version == 2:
        valid = GUEST_MEMFD
    return _unless(bool(flags & ~valid), Outcome.EINVAL)


def memslot_bind(
    kind: FileKind, file: int, offset: int, size: int, eexist: bool = True, bound: bool = False
) -> Outcome:  # fmt: skip
    """A memslot over a guest_memfd of so many bytes (guest_memfd.c kvm_gmem_prepare_memory_region, _commit_). bound: a
    part of it is bound already; eexist: as since Linux 7.2, EINVAL before (guest_memfd.c kvm_gmem_bind)."""
    if offset % PAGE_SIZE or offset + size >= WORD:
        return Outcome.EINVAL
    if kind is FileKind.NONE:
        return Outcome.EBADF
    if kind is not FileKind.OWN or offset + size > file:
        return Outcome.EINVAL
    return _unless(bound, Outcome.EEXIST if eexist else Outcome.EINVAL)


def memslot_number(number: int, most: int) -> Outcome:
    """A memslot's number, of so many (kvm_main.c kvm_set_memory_region)."""
    return _unless(number >= most, Outcome.EINVAL)


def memslot_change(overlaps: bool = False, changes: bool = False) -> Outcome:
    """A memslot where gpas are taken, or another shape for one over a guest_memfd (kvm_main.c
    kvm_set_memory_region)."""
    if changes:
        return Outcome.EINVAL
    return _unless(overlaps, Outcome.EEXIST)


def attributes(address: int, size: int, wanted: int, flags: int = 0, offered: int = PRIVATE) -> Outcome:
    """KVM_SET_MEMORY_ATTRIBUTES (kvm_main.c kvm_vm_ioctl_set_mem_attributes)."""
    wrong = flags or wanted & ~offered or size == 0 or address + size > WORD or not _aligned(address, size)
    return _unless(bool(wrong), Outcome.EINVAL)


class Content(StrEnum):
    """What becomes of the bytes of a range that the conversion series converts."""

    PRESERVE = "preserve"
    ZERO = "zero"


def inplace_attributes(
    offset: int, size: int, wanted: int, modes: Collection[Content] = (), error_offset: int = 0,
    offered: Collection[Content] = tuple(Content),
) -> tuple[Outcome, int]:  # fmt: skip
    """The conversion series' ioctl of the fd; with the error offset that it writes back."""
    wrong = error_offset or size == 0 or offset + size > WORD or not _aligned(offset, size) or len(set(modes)) > 1
    if wrong:
        return Outcome.EINVAL, error_offset
    unknown = any(mode not in offered for mode in modes)
    if unknown or (Content.ZERO in modes and wanted & PRIVATE):
        return Outcome.EOPNOTSUPP, offset
    return Outcome.DONE, 0


def done_before(outcomes: Collection[Outcome]) -> int | Outcome:
    """A call that goes page by page: how many were done before the first that was refused, or its error if none was
    (guest_memfd.c kvm_gmem_populate)."""
    done = 0
    for outcome in outcomes:
        if outcome is not Outcome.DONE:
            return done or outcome
        done += 1
    return done


def pre_fault(gpa: int, size: int, slot: tuple[int, int], offered: bool = True) -> tuple[Outcome, int]:
    """KVM_PRE_FAULT_MEMORY beside a memslot from one gpa to another; with the bytes that are left (kvm_main.c
    kvm_vcpu_pre_fault_memory). Once a page was done, an error leaves what it has not got to, and is told. offered:
    x86 has it, arm64 has not."""
    if not offered or not _aligned(gpa, size) or not gpa < gpa + size <= WORD:
        return Outcome.EINVAL, size
    inside = max(0, min(gpa + size, slot[1]) - gpa) if slot[0] <= gpa < slot[1] else 0
    return _unless(inside < size, Outcome.ENOENT), size - inside


def madvise_free(anonymous: bool) -> Outcome:
    """MADV_FREE (madvise.c madvise_free_single_vma): the pages stay until memory is short."""
    return _unless(not anonymous, Outcome.EINVAL)


def secret_create(flags: int, enabled: bool = True) -> Outcome:
    """memfd_secret (secretmem.c memfd_secret)."""
    if not enabled:
        return Outcome.ENOSYS
    return _unless(bool(flags & ~CLOEXEC), Outcome.EINVAL)


def secret_mmap(shared: bool, length: int, locked: int, limit: int) -> Outcome:
    """mmap of a memfd_secret (secretmem.c secretmem_mmap). locked, limit: bytes of RLIMIT_MEMLOCK; since Linux 7.3 they
    are counted at the first touch of a page, and one too many is SIGBUS (secretmem_fault)."""
    if not shared:
        return Outcome.EINVAL
    return _unless(locked + length > limit, Outcome.EAGAIN)


def secret_resize(size: int) -> Outcome:
    """ftruncate of a memfd_secret that has so many bytes (secretmem.c secretmem_setattr)."""
    return _unless(size > 0, Outcome.EINVAL)


def notifier_register(
    file: bool = True,
    notifier: bool = True,
    flags: int = 0,
    known: int = 1,
    claimed: bool = True,
    first: int | None = None,
) -> Outcome:
    """The series of 2022: a consumer registers with a store (memfile_notifier.c memfile_register_notifier). first: the
    flags of the consumer before it, which the others must have."""
    if not file or not notifier or flags & ~known:
        return Outcome.EINVAL
    if not claimed:
        return Outcome.EOPNOTSUPP
    return _unless(first is not None and first != flags, Outcome.EINVAL)


def pkvm_range(pages: int, *addresses: int) -> Outcome:
    """How much pKVM lends at once: a page, or a block that lies on its own boundary (mem_protect.c
    __guest_check_transition_size)."""
    if pages == 1:
        return Outcome.DONE
    block = all(address % (CHUNK * PAGE_SIZE) == 0 for address in addresses)
    return _unless(pages != CHUNK or not block, Outcome.EINVAL)


def pkvm_hypercall(rest: Collection[int], outcome: Outcome = Outcome.DONE) -> int:
    """What a protected guest's MEM_SHARE or MEM_UNSHARE answers (arm64 kvm/hyp/nvhe/pkvm.c). rest: the arguments that
    must be zero; outcome: of the transition. An unmapped page is no answer: the host maps it and the call is made
    again."""
    return INVALID_PARAMETER if any(rest) or outcome is not Outcome.DONE else 0


def pkvm_meminfo(arguments: Collection[int]) -> int:
    """HYP_MEMINFO: the granule of sharing, in bytes (Documentation/virt/kvm/arm/hypercalls.rst)."""
    return INVALID_PARAMETER if any(arguments) else PAGE_SIZE
