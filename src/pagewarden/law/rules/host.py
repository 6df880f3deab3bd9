"""Host user space: through the window, and through any other mapping that it can make itself."""

from typing import Any

from pagewarden.law.ops import Op
from pagewarden.law.page import Data, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import cut_off, fetched, leave_frame, moving, present, rule, scrubbed, start
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def host_abort(policy: Policy, page: Page, fixup: Outcome | None) -> Step:
    """The host's access stopped at stage 2; fixup is how a fault ends there, None where the kernel has none.

    Never a bug: resolved, or injected exactly once (mem_protect.c handle_host_mem_abort; mail of 6 April 2022). The
    handler takes the lock that a transition holds, so that the host tries again after it.
    """
    if page.owner in (Owner.OFFERED, Owner.SHARED, Owner.LEAVING):
        return refused(page, Outcome.HOST_RETRY, Event.FAULTS)
    if policy.has("injects") and fixup is not None:
        return refused(page, fixup, Event.FAULTS, Event.INJECTIONS)
    if policy.has("injects") and policy.has("force-reclaim") and page.owner is Owner.GUEST:
        step = force_reclaim(policy, page)
        return step._replace(events=(Event.FAULTS, Event.INJECTIONS, *step.events))
    return refused(page, Outcome.PANIC, Event.FAULTS)


@rule(Op.FORCE_RECLAIM, "mem_protect.c __pkvm_host_force_reclaim_page_guest: EAGAIN when already accessible")
def force_reclaim(policy: Policy, page: Page) -> Step:
    """The page is zeroed and poisoned for the guest, and the host's again."""
    if not policy.has("force-reclaim"):
        return refused(page, Outcome.EPERM)
    if page.owner is not Owner.GUEST:
        return refused(page, Outcome.EAGAIN)
    return done(
        page, Event.SCRUBS, Event.HYP_PTE_SET, *cut_off(page, guest=True),
        owner=Owner.POISON, data=Data.ZERO, host=Reach.LIVE, guest=View.NONE, kvm=False,
    )  # fmt: skip


def touch(policy: Policy, page: Page, write: bool, fixup: Outcome) -> Step:
    """An access by virtual address; fixup is how a fault ends (a signal, or EFAULT from a system call)."""
    changes: dict[str, Any] = {"data": Data.PUBLIC} if write else {}
    if policy.guard is Guard.ABSENT:  # the host's mapping is of other memory, which is the page while it is shared
        return done(page, reached=True, **changes) if page.owner is Owner.SHARED else done(page)
    if page.host is Reach.NONE:
        if policy.guard is Guard.STAGE2:
            return host_abort(policy, page, fixup)
        if not (policy.has("demand") and page.owner is Owner.SHARED):
            return refused(page, fixup, Event.FAULTS)
        filled = fetched(page)  # virt/kvm/guest_memfd.c kvm_gmem_get_folio
        changes |= {"host": Reach.LIVE, "home": page.home if present(page) else Home.RESIDENT}
        return done(page, Event.FAULTS, Event.HOST_PTE_SET, *filled, reached=True, **changes)
    if moving(page):
        return refused(page, Outcome.HOST_RETRY, Event.FAULTS)
    if not present(page):
        changes["home"] = Home.RESIDENT
        return done(page, Event.FAULTS, *fetched(page), reached=True, **changes)
    return done(page, reached=True, **changes)


@rule(Op.HOST_LOAD, "pkvm.rst: SIGSEGV for a private page", "guest_memfd.c kvm_gmem_fault_user_mapping: SIGBUS")
def host_load(policy: Policy, page: Page) -> Step:
    """Host user space reads through the window."""
    return touch(policy, page, False, Outcome[policy.fault])


@rule(Op.HOST_STORE, "pkvm.rst: SIGSEGV for a private page", "guest_memfd.c kvm_gmem_fault_user_mapping: SIGBUS")
def host_store(policy: Policy, page: Page) -> Step:
    """Host user space writes through the window."""
    return touch(policy, page, True, Outcome[policy.fault])


@rule(Op.UACCESS_READ, "mail of 6 April 2022: the uaccess macros' fix-up takes the fault")
def uaccess_read(policy: Policy, page: Page) -> Step:
    """The kernel copies from the window (write(2))."""
    return touch(policy, page, False, Outcome.EFAULT)


@rule(Op.UACCESS_WRITE, "mail of 6 April 2022: the uaccess macros' fix-up takes the fault")
def uaccess_write(policy: Policy, page: Page) -> Step:
    """The kernel copies into the window (read(2))."""
    return touch(policy, page, True, Outcome.EFAULT)


@rule(
    Op.HOST_MMAP,
    "mail of 5 April 2022: listing of mmap + munmap",
    "guest_memfd.c kvm_gmem_mmap: ENODEV without a mappable file",
)
def host_mmap(policy: Policy, page: Page) -> Step:
    """One more mapping of the file. Stage 2, or the file itself, guards it as it guards the window."""
    if policy.guard is Guard.ABSENT and page.owner is not Owner.SHARED:
        return refused(page, Outcome.ENODEV)
    if policy.has("no-file"):
        return refused(page, Outcome.EBADF)
    return done(page, Event.HOST_PTE_SET, alias=page.alias or not _guarded(policy))


@rule(Op.HOST_MUNMAP, "mail of 5 April 2022: the same listing")
def host_munmap(policy: Policy, page: Page) -> Step:
    """That mapping goes away again; its invalidation is a step of its own."""
    return done(page, Event.HOST_PTE_CLEAR, alias=False)


def _guarded(policy: Policy) -> bool:
    """Whether a further mapping is guarded like the first one: by stage 2 or the file, or because nothing guards."""
    return policy.guard is not Guard.STAGE1 or policy.has("file-guards")


def _another(policy: Policy, page: Page) -> Step:
    """One more mapping, which the window's own guard does not know. Protection (mprotect) goes with it as it is now."""
    shut = policy.has("mprotect") and page.host is Reach.NONE
    return done(page) if _guarded(policy) or shut else done(page, alias=True)


@rule(
    Op.FORK, "userfaultfd.c dup_userfaultfd: a child's copy is not registered", "madvise(2): MADV_DONTFORK shuts it out"
)
def fork(policy: Policy, page: Page) -> Step:
    """A child process gets a copy of the window, or (MADV_DONTFORK) none, so that it meets SIGSEGV."""
    if policy.has("filtered"):
        return refused(page, Outcome.EPERM)
    return refused(page, Outcome.SIGSEGV) if policy.has("dontfork") else _another(policy, page)


@rule(Op.MREMAP, "userfaultfd.c mremap_userfaultfd_prep: a moved mapping leaves the registered range")
def mremap(policy: Policy, page: Page) -> Step:
    """The host moves a page of the window elsewhere."""
    return refused(page, Outcome.EPERM) if policy.has("filtered") else _another(policy, page)


@rule(Op.REOPEN, "proc_pid_map_files(5): a mapped file can be opened again", "mprotect(2): where only that guards")
def reopen(policy: Policy, page: Page) -> Step:
    """The host makes itself another mapping of the file, or takes the guard off."""
    if policy.has("no-file"):
        return refused(page, Outcome.EBADF)
    return done(page) if _guarded(policy) else done(page, alias=True)


@rule(Op.MPROTECT, "mprotect(2): the host may give its own mapping any permission that the file was opened with")
def mprotect(policy: Policy, page: Page) -> Step:
    """The host permits itself the window: that opens it where permission is all that guards."""
    return done(page, alias=True) if policy.has("mprotect") and policy.guard is Guard.STAGE1 else done(page)


@rule(
    Op.HOST_DROP,
    "madvise.c madvise_dontneed_single_vma: entries go, the file keeps its pages",
    "madvise(2): EINVAL where locked",
)
def host_drop(policy: Policy, page: Page) -> Step:
    """The host closes its own entry: where only the warden can open it again, its next touch fails, and elsewhere
    that maps the page anew."""
    warden_opens = policy.guard is Guard.STAGE1 and not policy.has("demand") and not policy.has("mprotect")
    if warden_opens and policy.has("protnone") and not policy.has("minor-too"):
        return done(page, alias=True)  # the next touch fills the entry, without the protection
    if not warden_opens or page.host is not Reach.LIVE:
        return done(page)
    return done(page, Event.HOST_PTE_CLEAR, Event.TLBI, host=Reach.NONE)


@rule(Op.ALIAS_LOAD, "by definition: a mapping without a guard reads the page cache")
def alias_load(policy: Policy, page: Page) -> Step:
    """A read through that other mapping; without one, the window's guard decides."""
    if not page.alias:
        return touch(policy, page, False, Outcome[policy.fault])
    if moving(page):
        return refused(page, Outcome.HOST_RETRY, Event.FAULTS)
    return done(page, reached=present(page))


@rule(Op.ALIAS_STORE, "by definition: a mapping without a guard reads the page cache")
def alias_store(policy: Policy, page: Page) -> Step:
    """A write through that other mapping; without one, the window's guard decides."""
    if not page.alias:
        return touch(policy, page, True, Outcome[policy.fault])
    if moving(page):
        return refused(page, Outcome.HOST_RETRY, Event.FAULTS)
    return done(page, reached=True, data=Data.PUBLIC) if present(page) else done(page)


@rule(Op.ALIAS_CLOSE, "by definition: munmap, or the end of the child")
def alias_close(policy: Policy, page: Page) -> Step:
    """The other mapping goes away."""
    return done(page, alias=False)


@rule(Op.HOST_DISCARD, "madvise.c madvise_remove: a shared writable mapping may punch its file")
def host_discard(policy: Policy, page: Page) -> Step:
    """madvise(MADV_REMOVE): the bytes are gone, whoever had them."""
    if policy.has("discard-guarded") or policy.has("filtered"):
        return refused(page, Outcome.EPERM)
    if moving(page):
        return refused(page, Outcome.EAGAIN)
    if not present(page):
        return done(page)
    back = start(policy).host
    return done(
        leave_frame(policy, page), *scrubbed(policy, page), *cut_off(page, guest=True, host=back is Reach.NONE),
        reached=True, home=Home.HOLE, data=Data.ZERO, guest=View.NONE, kvm=False, host=back,
        owner=Owner.GUEST if page.owner is Owner.LEAVING else page.owner,
    )  # fmt: skip
