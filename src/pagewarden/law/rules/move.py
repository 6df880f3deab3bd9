"""Migration and swap, which only somebody who may read the page can do: the hypervisor, or a kernel that is trusted."""

from pagewarden.law.ops import Op
from pagewarden.law.page import Data, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import leave_frame, rule, scrubbed
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def _may_go(policy: Policy, page: Page, mechanism: str) -> Outcome:
    """Whether the frame may be left: nobody translates to it, nobody holds it. A shared page, or one that is the
    host's own, is ordinary memory."""
    if not policy.has(mechanism):
        return Outcome.EINVAL if policy.has("gets-pfn") else Outcome.EBUSY
    if page.owner not in (Owner.GUEST, Owner.SHARED, Owner.HOST) or page.home is not Home.RESIDENT:
        return Outcome.EAGAIN
    held = page.guest is not View.NONE or page.kvm or page.pins or page.dma is not Reach.NONE
    return Outcome.EAGAIN if held and policy.has("moves-checked") else Outcome.DONE


@rule(
    Op.MIGRATE_BEGIN,
    "migrate.c folio_migrate_mapping: EAGAIN while referenced",
    secret="secretmem.c secretmem_migrate_folio: EBUSY",
    gmem_inplace="guest_memfd.c kvm_gmem_migrate_folio: EINVAL",
    pkvm="arm64/kvm/mmu.c pkvm_mem_abort: a long-term pin",
    hybrid="mail of 6 April 2022: hypervisor-assisted page migration, no more is said",
)
def migrate_begin(policy: Policy, page: Page) -> Step:
    """The page is to move to another frame."""
    verdict = _may_go(policy, page, "migrates")
    return done(page, home=Home.MOVING) if verdict is Outcome.DONE else refused(page, verdict)


@rule(Op.MIGRATE_COPY, "migrate.c __migrate_folio: the copy", hybrid="own design: by the hypervisor")
def migrate_copy(policy: Policy, page: Page) -> Step:
    """The hypervisor copies the bytes."""
    if page.home is not Home.MOVING:
        return refused(page, Outcome.EINVAL)
    return done(page, Event.HYP_COPIES, Event.ALLOCATIONS, home=Home.COPIED)


@rule(Op.MIGRATE_COMMIT, "migrate.c __migrate_folio", hybrid="own design: the old frame is scrubbed before it goes")
def migrate_commit(policy: Policy, page: Page) -> Step:
    """The new frame is the page. Whoever holds the old one holds something else now."""
    if page.home not in (Home.COPIED, Home.DIRTIED):
        return refused(page, Outcome.EINVAL)
    return done(leave_frame(policy, page), *scrubbed(policy, page), home=Home.RESIDENT)


@rule(Op.MIGRATE_ABORT, "migrate.c migrate_folio_undo_src: the old frame stays")
def migrate_abort(policy: Policy, page: Page) -> Step:
    """The move is called off."""
    if page.home not in (Home.MOVING, Home.COPIED, Home.DIRTIED):
        return refused(page, Outcome.EINVAL)
    return done(page, home=Home.RESIDENT)


@rule(
    Op.SWAP_OUT,
    "vmscan.c shrink_folio_list: what nobody maps or holds is written out",
    hybrid="own design: the hypervisor seals the copy, with a counter that it keeps",
    pkvm="arm64/kvm/mmu.c pkvm_mem_abort: a long-term pin",
)
def swap_out(policy: Policy, page: Page) -> Step:
    """The bytes go to the host's swap, the frame back to the host."""
    verdict = _may_go(policy, page, "swaps")
    if verdict is not Outcome.DONE:
        return refused(page, verdict if policy.has("swaps") else Outcome.EOPNOTSUPP)
    return done(leave_frame(policy, page), *scrubbed(policy, page), Event.HYP_COPIES, home=Home.SWAPPED)


@rule(Op.SWAP_IN, "memory.c do_swap_page", hybrid="own design: the hypervisor opens the copy and checks its counter")
def swap_in(policy: Policy, page: Page) -> Step:
    """The bytes come back. A host that is not trusted keeps the copy; a kernel that is frees its slot."""
    if page.home is not Home.SWAPPED:
        return refused(page, Outcome.ENOENT)
    keeps = policy.guard is Guard.STAGE2
    return done(page, Event.ALLOCATIONS, Event.HYP_COPIES, home=Home.RESIDENT, swap_old=keeps)


@rule(Op.SWAP_IN_TAMPERED, "own design: authenticated encryption, a changed copy does not open")
def swap_in_tampered(policy: Policy, page: Page) -> Step:
    """The host hands back a copy that it has changed."""
    if page.home is not Home.SWAPPED:
        return refused(page, Outcome.ENOENT)
    if policy.has("swap-sealed"):
        return refused(page, Outcome.EBADMSG, Event.HYP_COPIES)
    return done(page, Event.ALLOCATIONS, home=Home.RESIDENT, data=Data.ZERO)


@rule(Op.SWAP_IN_STALE, "own design: a counter a page, an earlier copy does not open")
def swap_in_stale(policy: Policy, page: Page) -> Step:
    """The host hands back an earlier copy of the page."""
    if page.home is not Home.SWAPPED or not page.swap_old:
        return refused(page, Outcome.ENOENT)
    if policy.has("swap-fresh"):
        return refused(page, Outcome.EBADMSG, Event.HYP_COPIES)
    return done(page, Event.ALLOCATIONS, home=Home.RESIDENT)


@rule(Op.SWAP_READ, "own design: what lies in the host's swap is ciphertext")
def swap_read(policy: Policy, page: Page) -> Step:
    """The host reads the swap copy: ciphertext if it is sealed."""
    if page.home is not Home.SWAPPED:
        return refused(page, Outcome.ENOENT)
    return done(page, reached=not policy.has("swap-sealed"))
