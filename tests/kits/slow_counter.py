"""What an operation owes, told from the page before and after it: a counter that knows no rule.

Written from what is counted (vocab/events.py) and the mail's listings. An entry that was there and is not any more was
cleared once; one that was not and is now was set once; a translation that no TLB has any more was invalidated, once an
operation; a page that got a frame took one from the host; bytes that left a frame were scrubbed or copied. Only what
leaves no trace in a page is told from the operation itself.
"""

from collections import Counter
from collections.abc import Iterable

from pagewarden.law import Data, Guard, Home, Op, Outcome, Owner, Page, Policy, Reach, View
from pagewarden.law.page import PRIVATE
from pagewarden.vocab import Event
from pagewarden.vocab.events import RANGED

WARDENS = {Op.HOST_ZAP, Op.DONATE_HYP}
"""Who clears an entry of the host: the warden here; anywhere else the host kernel."""
TOUCHES = {
    Op.HOST_LOAD,
    Op.HOST_STORE,
    Op.UACCESS_READ,
    Op.UACCESS_WRITE,
    Op.ALIAS_LOAD,
    Op.ALIAS_STORE,
    Op.GUP_PIN,
    Op.CORE_DUMP,
}
"""Host accesses by address: a page fault sets the host's own entry."""
KERNELS = {Op.KMAP_READ, Op.KMAP_WRITE, Op.FORK, Op.CORE_DUMP, Op.KCORE_READ}
"""Accesses of the kernel by its own mapping, for which it may take a page from the guest."""
FAULTING = {*TOUCHES, *KERNELS}
REFERENCES = {Op.KVM_GET, Op.GUP_PIN, Op.FD_GET, Op.CORE_DUMP}
LIVE = {View.PRIVATE, View.SHARED}
OPENS = {Op.SWAP_IN_TAMPERED, Op.SWAP_IN_STALE}
"""A copy is opened before it is refused."""
NO_FRAME = {Home.HOLE, Home.SWAPPED}


def owed(policy: Policy, before: Page, op: Op, outcome: Outcome, after: Page) -> Counter[Event]:
    """The events of one operation on one page."""
    if outcome is not Outcome.DONE:
        return _attempt(policy, before, op, outcome)
    found: Counter[Event] = Counter()
    _entries(found, before, op, after)
    _owners(found, policy, before, after)
    _invalidations(found, policy, before, op, after)
    _frames(found, policy, before, op, after)
    _host_faults(found, policy, before, op, after)
    found[Event.PINS] += op in REFERENCES or (op is Op.HOST_MMAP and policy.has("exclusive"))
    found[Event.NOTIFICATIONS] += op is Op.NOTIFY_BEGIN and policy.has("notifies")
    return +found


def owed_of_range(policy: Policy, steps: Iterable[tuple[Page, Op, Outcome, Page]]) -> Counter[Event]:
    """Of one call on many pages: RANGED events once, the others a page."""
    found: Counter[Event] = Counter()
    for step in steps:
        for event, times in owed(policy, *step).items():
            found[event] = 1 if event in RANGED else found[event] + times
    return +found


def _attempt(policy: Policy, before: Page, op: Op, outcome: Outcome) -> Counter[Event]:
    """What was not done costs the fault that it ended in."""
    if op in OPENS and outcome is Outcome.EBADMSG:
        return Counter({Event.HYP_COPIES: 1})
    if op in (Op.GUEST_LOAD, Op.GUEST_STORE):
        return Counter({Event.FAULTS: 1} if outcome is Outcome.GUEST_FAULT else {})
    if op not in FAULTING or outcome in (Outcome.EBUSY, Outcome.EINVAL, Outcome.EAGAIN):
        return Counter()
    if op in (Op.GUP_PIN, Op.CORE_DUMP) and (policy.has("gup-blocked") or before.owner is Owner.HYP):
        return Counter()  # the kernel does not get as far as a fault
    if (op is Op.FORK and outcome in (Outcome.SIGSEGV, Outcome.EPERM)) or outcome is Outcome.EBADF:
        return Counter()  # it is the child that meets nothing; nothing was opened
    unmapped = policy.has("exclusive") and not before.mapped  # a fault of stage 1
    stopped = outcome in (Outcome.SIGSEGV, Outcome.SIGBUS, Outcome.EFAULT)
    injected = policy.guard is Guard.STAGE2 and stopped and not unmapped
    return Counter({Event.FAULTS: 1, Event.INJECTIONS: 1} if injected else {Event.FAULTS: 1})


def _entries(found: Counter[Event], before: Page, op: Op, after: Page) -> None:
    """Of the host at the level that guards, of the guest, of devices, of mappings that the law keeps no state of."""
    if after.host is Reach.LIVE and before.host is not Reach.LIVE:
        own = op in TOUCHES and after.owner is not Owner.POISON  # a reclaim's is the hypervisor's
        found[Event.HOST_PTE_SET if own else Event.HYP_PTE_SET] += 1
    if before.host is Reach.LIVE and after.host is not Reach.LIVE:
        found[Event.HYP_PTE_CLEAR if op in WARDENS else Event.HOST_PTE_CLEAR] += 1
    if after.guest in LIVE and before.guest is not after.guest:
        found[Event.GUEST_PTE_SET] += 1
    if before.guest in LIVE and after.guest not in LIVE:
        found[Event.GUEST_PTE_CLEAR] += 1
    found[Event.IO_PTE_SET] += after.owner is Owner.OFFERED and before.owner is not Owner.OFFERED
    found[Event.IO_PTE_SET] += after.dma is Reach.LIVE and before.dma is not Reach.LIVE
    found[Event.IO_PTE_CLEAR] += op is Op.DMA_UNMAP
    found[Event.HOST_PTE_SET] += op is Op.HOST_MMAP
    found[Event.HOST_PTE_CLEAR] += op is Op.HOST_MUNMAP


def _owners(found: Counter[Event], policy: Policy, before: Page, after: Page) -> None:
    """A table beside page tables says whether a page is private."""
    was, now = (page.owner in PRIVATE for page in (before, after))
    if policy.has("owner-table"):
        found[Event.HYP_PTE_SET] += now and not was
        found[Event.HYP_PTE_CLEAR] += was and not now


def _invalidations(found: Counter[Event], policy: Policy, before: Page, op: Op, after: Page) -> None:
    guest = before.guest is not View.NONE and after.guest is View.NONE
    host = before.host is not Reach.NONE and after.host is Reach.NONE
    device = op is Op.IOTLB_INV and before.dma is Reach.STALE
    mapping = op is Op.HOST_TLBI and before.owner is not Owner.LEAVING and policy.has("tlb-flushed")
    mapping = mapping and not (policy.has("idempotent") and before.owner in PRIVATE)  # nothing is converted
    found[Event.TLBI] += guest or host or device or mapping


def _frames(found: Counter[Event], policy: Policy, before: Page, op: Op, after: Page) -> None:
    gets = before.home in NO_FRAME and after.home is Home.RESIDENT
    converts = op is Op.UNSHARE_COMMIT and before.owner is Owner.LEAVING
    held = bool(before.pins) or before.dma is not Reach.NONE
    replaced = policy.has("replaces") and (held or not policy.has("protnone"))
    anew = converts and (replaced or not (policy.has("in-place") or policy.has("keeps-both")))
    found[Event.ALLOCATIONS] += gets or anew or op is Op.MIGRATE_COPY
    opened = before.home is Home.SWAPPED and gets and op not in OPENS
    copied = op in (Op.MIGRATE_COPY, Op.SWAP_OUT) or (anew and policy.has("in-place"))
    found[Event.HYP_COPIES] += opened or copied
    erased = after.data is Data.ZERO and before.data is not Data.ZERO and before.home not in NO_FRAME
    moved = op in (Op.MIGRATE_COMMIT, Op.SWAP_OUT)
    given_up = (erased and op is not Op.UNSHARE_COMMIT) or moved
    hers = before.owner in {*PRIVATE, Owner.LEAVING} and op is Op.RECLAIM  # all of it is zeroed, secret or not
    zeroed = given_up and (before.data is Data.SECRET or hers) and policy.has("scrubs")
    taken = after.owner is Owner.POISON and before.owner is not Owner.POISON
    found[Event.SCRUBS] += zeroed or taken


def _host_faults(found: Counter[Event], policy: Policy, before: Page, op: Op, after: Page) -> None:
    """An access of the host that was resolved, or that took the page from the guest."""
    if op is Op.KCORE_READ:
        stopped = policy.guard is Guard.STAGE2 and before.host is Reach.NONE and before.home not in NO_FRAME
        found[Event.FAULTS] += stopped
        found[Event.INJECTIONS] += stopped
    elif op in KERNELS - TOUCHES:
        taken = after.owner is Owner.POISON and before.owner is not Owner.POISON
        found[Event.FAULTS] += taken
        found[Event.INJECTIONS] += taken
    if op in TOUCHES:
        taken = op in KERNELS and after.owner is Owner.POISON and before.owner is not Owner.POISON
        found[Event.INJECTIONS] += taken
        opened = after.host is Reach.LIVE and before.host is not Reach.LIVE
        filled = before.home in NO_FRAME and after.home is Home.RESIDENT
        found[Event.FAULTS] += taken or opened or filled
