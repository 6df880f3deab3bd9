"""Host user space: through the window, and through any other mapping that it can make itself."""

from typing import Any

from pagewarden.law.ops import Op
from pagewarden.law.page import Data, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import by_address, cut_off, elsewhere, fetched, leave_frame, moving, present, rule
from pagewarden.law.rules.reclaim import host_abort
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def touch(policy: Policy, page: Page, write: bool, fixup: Outcome) -> Step:
    """An access by virtual address; fixup is how a fault ends (a signal, or EFAULT from a system call)."""
    changes: dict[str, Any] = {"data": Data.PUBLIC} if write else {}
    if policy.guard is Guard.ABSENT:  # the host's mapping is of other memory, which is the page while it is shared
        if elsewhere(policy, page):
            return done(page, reached=True, **changes)
        return done(page, beside=Data.PUBLIC) if write else done(page)
    if page.apart:
        return done(page)  # of another frame
    if policy.has("exclusive") and not page.mapped:
        return refused(page, fixup, Event.FAULTS)
    if page.host is Reach.NONE:
        if policy.guard is Guard.STAGE2:
            return host_abort(policy, page, fixup)
        if not (policy.has("demand") and page.owner is Owner.SHARED):
            return refused(page, fixup, Event.FAULTS)
        filled = fetched(page)
        changes |= {"host": Reach.LIVE, "home": page.home if present(page) else Home.RESIDENT}
        return done(page, Event.FAULTS, Event.HOST_PTE_SET, *filled, reached=True, **changes)
    if moving(page):
        return refused(page, Outcome.HOST_RETRY, Event.FAULTS)
    if not present(page):
        changes["home"] = Home.RESIDENT
        return done(page, Event.FAULTS, *fetched(page), reached=True, **changes)
    return done(page, reached=True, **changes)


_TOUCHED: dict[str, str | tuple[str, ...]] = {
    "pkvm": (
        "mem_protect.c handle_host_mem_abort: resolved, or injected exactly once",
        "pkvm.rst: SIGSEGV for a private page",
    ),
    "gmem": "guest_memfd.c kvm_gmem_fault_user_mapping: SIGBUS unless the file is shared; zeroed first",
    "inplace": "guest_memfd.c kvm_gmem_fault_user_mapping: SIGBUS unless the page is shared",
    "uffd": "userfaultfd.c handle_userfault: UFFD_FEATURE_SIGBUS",
    "secret": "secretmem.c secretmem_fault: whoever maps it reads it",
    "hybrid": "mail of 6 April 2022: the fault is injected, and becomes a SEGV of user space",
}  # fmt: skip


@rule(Op.HOST_LOAD, "by definition: a mapping reaches what it maps", **_TOUCHED)
def host_load(policy: Policy, page: Page) -> Step:
    """Host user space reads through the window. A private page that is guarded ends it with a signal."""
    return touch(policy, page, False, Outcome[policy.fault])


@rule(Op.HOST_STORE, "by definition: a mapping reaches what it maps", **_TOUCHED)
def host_store(policy: Policy, page: Page) -> Step:
    """Host user space writes through the window. A private page that is guarded ends it with a signal."""
    return touch(policy, page, True, Outcome[policy.fault])


_COPIED: dict[str, str | tuple[str, ...]] = _TOUCHED | {
    "pkvm": ("fault.c is_pkvm_stage2_abort: the fix-up comes before any reclaim", "pkvm.rst: -EFAULT"),
}  # fmt: skip


@rule(Op.UACCESS_READ, "mail of 6 April 2022: the uaccess macros' fix-up takes the fault", **_COPIED)
def uaccess_read(policy: Policy, page: Page) -> Step:
    """The kernel copies out of the window, as write(2) does. What does not answer ends in EFAULT."""
    return touch(policy, page, False, Outcome.EFAULT)


@rule(Op.UACCESS_WRITE, "mail of 6 April 2022: the uaccess macros' fix-up takes the fault", **_COPIED)
def uaccess_write(policy: Policy, page: Page) -> Step:
    """The kernel copies into the window, as read(2) does. What does not answer ends in EFAULT."""
    return touch(policy, page, True, Outcome.EFAULT)


def _guarded(policy: Policy) -> bool:
    """Whether a further mapping is guarded like the first one: by stage 2 or the file, or because nothing guards."""
    return policy.guard is not Guard.STAGE1 or policy.has("file-guards")


def _another(policy: Policy, page: Page) -> Step:
    """One more mapping, which the window's own guard does not know. Protection (mprotect) goes with it as it is now."""
    kept = policy.has("mprotect") and page.host is Reach.NONE
    return done(page) if _guarded(policy) or kept else done(page, alias=True)


@rule(
    Op.HOST_MMAP,
    "mail of 5 April 2022: listing of mmap + munmap",
    gmem_inplace="guest_memfd.c kvm_gmem_mmap: ENODEV without GUEST_MEMFD_FLAG_MMAP",
    v5="patch series v5: an inaccessible file cannot be mapped",
    exclusive="thread of April 2022: exclusive references: mapping a page takes one, and may fail",
    pkvm="pkvm.rst: stage 2 guards the frame, whatever maps it",
)
def host_mmap(policy: Policy, page: Page) -> Step:
    """One more mapping of the file. Stage 2, or the file itself, guards it as it guards the window."""
    if policy.has("no-file") or policy.has("anonymous"):
        return refused(page, Outcome.EBADF)
    if policy.has("exclusive"):
        return refused(page, Outcome.EBUSY) if page.kvm else done(page, Event.HOST_PTE_SET, Event.PINS, mapped=True)
    if policy.guard is Guard.ABSENT and page.owner is not Owner.SHARED:
        return refused(page, Outcome.ENODEV)
    return done(page, Event.HOST_PTE_SET, alias=page.alias or not _guarded(policy))


@rule(Op.HOST_MUNMAP, "mail of 5 April 2022: listing of mmap + munmap")
def host_munmap(policy: Policy, page: Page) -> Step:
    """That mapping goes away again; its invalidation is a step of its own."""
    return done(page, Event.HOST_PTE_CLEAR, alias=False, mapped=False)


@rule(
    Op.FORK,
    "memory.c copy_present_page: what is pinned is copied at fork, by the kernel",
    "madvise(2): MADV_DONTFORK",
    uffd="userfaultfd.c dup_userfaultfd: a child's copy is not registered",
    gmem_inplace="guest_memfd.c kvm_gmem_fault_user_mapping: the file decides for the child as well",
)
def fork(policy: Policy, page: Page) -> Step:
    """A child process gets the window too: none of it where that is kept from children, a copy of anonymous memory, and
    else one more mapping."""
    if policy.has("filtered"):
        return refused(page, Outcome.EPERM)
    if policy.has("dontfork"):
        return refused(page, Outcome.SIGSEGV)
    if not policy.has("anonymous"):
        return _another(policy, page)
    copied = page.kvm and not page.apart and page.host is Reach.NONE
    return host_abort(policy, page, None) if copied else done(page)


@rule(
    Op.MREMAP,
    "mremap.c move_vma: the mapping moves, the pages stay",
    uffd="userfaultfd.c mremap_userfaultfd_prep: a moved mapping leaves the registered range",
    pkvm="arm64/kvm/mmu.c pkvm_mem_abort: what the guest has not touched is looked for at the old address, EFAULT",
)
def mremap(policy: Policy, page: Page) -> Step:
    """The host moves a page of the window elsewhere. Where KVM goes by the address, it finds nothing there any more."""
    if policy.has("filtered"):
        return refused(page, Outcome.EPERM)
    step = _another(policy, page)
    if not by_address(policy) or page.kvm:
        return step
    return done(step.page, *cut_off(page, guest=True), guest=View.NONE, slot=False)


@rule(Op.REOPEN, "proc_pid_map_files(5): a mapped file can be opened again", "mprotect(2): where only that guards")
def reopen(policy: Policy, page: Page) -> Step:
    """The host makes itself another mapping of the file, or takes the guard off."""
    if policy.has("no-file") or policy.has("anonymous"):
        return refused(page, Outcome.EBADF)
    return done(page) if _guarded(policy) else done(page, alias=True)


@rule(
    Op.MPROTECT,
    "mprotect(2): the host may give its own mapping any permission that the file was opened with",
    exclusive="thread of April 2022: exclusive references: permission takes a reference, PROT_NONE has none",
)
def mprotect(policy: Policy, page: Page) -> Step:
    """The host permits itself the window: that opens it where permission is all that guards."""
    return done(page, alias=True) if policy.has("mprotect") and policy.guard is Guard.STAGE1 else done(page)


@rule(
    Op.HOST_DROP,
    "madvise.c madvise_dontneed_single_vma: entries go, a file keeps its pages",
    secret="secretmem.c secretmem_mmap_prepare: locked until Linux 6.18, so EINVAL",
    pkvm="pkvm.rst: changes of the address space are not reflected in the guest: loss of coherency",
)
def host_drop(policy: Policy, page: Page) -> Step:
    """The host drops its own entry by MADV_DONTNEED. Where only the warden can set it again, its next touch fails;
    anonymous memory is gone, and the next touch finds a new page; a file's page is mapped anew."""
    if policy.has("locked-mapping"):
        return refused(page, Outcome.EINVAL)
    if policy.has("anonymous"):
        return _dropped(policy, page)
    warden_opens = policy.guard is Guard.STAGE1 and not policy.has("demand") and not policy.has("mprotect")
    if warden_opens and policy.has("protnone") and not policy.has("minor-too"):
        return done(page, alias=True)  # the next touch fills the entry, without the protection
    if not warden_opens or page.host is not Reach.LIVE:
        return done(page)
    return done(page, Event.HOST_PTE_CLEAR, Event.TLBI, host=Reach.NONE)


def _dropped(policy: Policy, page: Page) -> Step:
    """Anonymous memory: a frame that KVM holds stays the guest's, any other is free."""
    if page.kvm:
        return done(page, apart=True)
    if moving(page):
        return refused(page, Outcome.EAGAIN)
    gone = leave_frame(policy, page)._replace(home=Home.HOLE, data=Data.ZERO, guest=View.NONE, swap_old=False)
    return done(gone, *cut_off(page, guest=True))


def _by_alias(policy: Policy, page: Page, write: bool) -> Step:
    if not page.alias:
        return touch(policy, page, write, Outcome[policy.fault])
    if moving(page):
        return refused(page, Outcome.HOST_RETRY, Event.FAULTS)
    there = present(page)
    return done(page, reached=there, data=Data.PUBLIC if write and there else page.data)


@rule(Op.ALIAS_LOAD, "by definition: a mapping reaches what it maps")
def alias_load(policy: Policy, page: Page) -> Step:
    """A read through that other mapping; without one, the window's guard decides."""
    return _by_alias(policy, page, False)


@rule(Op.ALIAS_STORE, "by definition: a mapping reaches what it maps")
def alias_store(policy: Policy, page: Page) -> Step:
    """A write through that other mapping; without one, the window's guard decides."""
    return _by_alias(policy, page, True)


@rule(Op.ALIAS_CLOSE, "by definition: a mapping ends by munmap, or with its process")
def alias_close(policy: Policy, page: Page) -> Step:
    """The other mapping goes away."""
    return done(page, alias=False)
