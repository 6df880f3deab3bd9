"""Share, unshare and donate: the parts of a listing that convert pages."""

from dataclasses import replace

from pagewarden.designs.steps import Do, Each, Hop, Line, Options, Say, Steps, Stop, Syscall
from pagewarden.law import Op, Policy

RING = Say("writes a descriptor to the shared virtio ring")
READ_RING = Say("reads the ring: mmapped shared memory")


def doorbell(*between: Line) -> Steps:
    """The exit of the doorbell; the steps between happen in the hypervisor on the way."""
    return (Hop("guest>hyp", "rings the doorbell"), *between, Hop("hyp>host", "exit to the host"), READ_RING)


def resume() -> Steps:
    """Back from the host to the guest."""
    return (Hop("host>hyp", "resumes the guest"), Hop("hyp>guest"))


def let_go(policy: Policy) -> Steps:
    """The store tells KVM, which drops the guest's translation and its reference, before a page changes."""
    if not policy.has("notifies"):
        return ()
    return (
        Do(Op.NOTIFY_BEGIN, "the store tells its consumers"),
        Do(Op.GUEST_ZAP, "KVM zaps the guest's entry"),
        Do(Op.GUEST_TLBI, "TLBI"),
        Do(Op.KVM_PUT, "and drops its reference", otherwise=()),
    )


def map_again(policy: Policy) -> Steps:
    """KVM takes a reference and maps the page for the guest."""
    get = () if policy.has("emulated") else (Do(Op.KVM_GET, "KVM takes a reference"),)
    return (*get, Do(Op.GUEST_MAP, "the guest's stage-2 entry is set"))


def refault(policy: Policy) -> Steps:
    """The guest touches a page of its own that it has no entry for, and KVM maps it again."""
    hole = () if policy.has("discard-guarded") else (Do(Op.ALLOCATE, "the fd has a page, or gets one"),)
    get = () if policy.has("emulated") else (Do(Op.KVM_GET, "takes a reference, unless it has one", otherwise=()),)
    return (
        Do(Op.GUEST_LOAD, "touches the page", otherwise=()),
        Hop("guest>hyp", "faults"),
        Hop("hyp>host", "hands the fault to the host"),
        *hole,
        *get,
        Hop("host>hyp", "asks to map the page"),
        Do(Op.GUEST_MAP, "maps it for the guest"),
        Hop("hyp>guest", "resumes the guest"),
    )


def _invalidation_over(policy: Policy) -> Steps:
    """Also when the conversion was refused: KVM may not map a page while an invalidation is under way."""
    if not policy.has("two-flavours"):
        return ()
    return (Do(Op.NOTIFY_END, "the invalidation is over"), *map_again(policy))


def _with_views(policy: Policy, first: Do, *steps: Line) -> Steps:
    """Where the guest's two views are separate entries, the old one goes first and the guest faults on the new one."""
    if not policy.has("two-flavours"):
        return (first, *steps)
    over = _invalidation_over(policy)
    return (*let_go(policy), replace(first, otherwise=(*over, Stop("refused"))), *steps, *over)


def _call(options: Options, steps: Steps) -> Steps:
    return steps if options.batch else (Each(steps),)


def take_up(policy: Policy) -> Steps:
    """The hypervisor makes pages shared and gives the host its entry."""
    return _with_views(policy, Do(Op.SHARE, "checks and records: shared"), Do(Op.HOST_MAP, "adds a PTE for the host"))


def share(options: Options, policy: Policy) -> Steps:
    """By hypercall; the host is not told, unless sync-notify."""
    told = (Hop("hyp>host", "tells the host"), Hop("host>hyp")) if options.sync_notify else ()
    call = (Hop("guest>hyp", "shares the page", hypercall=True), *take_up(policy), *told, Hop("hyp>guest"))
    return _call(options, call)


def _begin(policy: Policy, tries: int) -> Steps:
    before = let_go(policy) if policy.has("two-flavours") else ()
    refused = (*_invalidation_over(policy), Hop("hyp>guest", "EAGAIN: the host holds a reference"))
    again: Steps = (Stop("keeps the page shared", ok=True),)
    if tries:
        again = (Hop("guest>hyp", "asks again", hypercall=True), *_begin(policy, tries - 1))
    return (*before, Do(Op.UNSHARE_BEGIN, "checks references", otherwise=(*refused, *again)))


def take_back(policy: Policy) -> Steps:
    """Every translation of the host goes before the page is private."""
    device = (Do(Op.IOTLB_INV, "IOTLB invalidated, if anything is in it"),) if policy.has("iommu-guarded") else ()
    return (
        Do(Op.HOST_ZAP, "PTE removed"),
        Do(Op.HOST_TLBI, "TLBI"),
        *device,
        Do(Op.UNSHARE_COMMIT, "records: private"),
    )


def unshare(options: Options, policy: Policy) -> Steps:
    """By hypercall; it may be refused."""
    body = (*_begin(policy, options.retries), *take_back(policy), *_invalidation_over(policy))
    call = (Hop("guest>hyp", "unshares the page", hypercall=True), *body, Hop("hyp>guest", "done"))
    return _call(options, call)


def donate(policy: Policy) -> Steps:
    """From a hole to a private page that the guest maps: a fault, the memslot, the fd, a reference, the donation."""
    get = () if policy.has("emulated") else (Do(Op.KVM_GET, "takes a reference"),)
    return (
        Do(Op.GUEST_LOAD, "touches the page", otherwise=()),
        Hop("guest>hyp", "faults on its empty stage 2"),
        Hop("hyp>host", "hands the fault to the host"),
        Say("finds the memslot: gfn -> fd and offset"),
        Syscall("fallocate", "the fd gets a page", access=False),
        Do(Op.ALLOCATE, "allocated"),
        *get,
        Hop("host>hyp", "asks to donate the page"),
        Do(Op.DONATE_BEGIN, "checks that the host owns it"),
        *take_back(policy),
        Do(Op.GUEST_MAP, "maps it for the guest"),
        Hop("hyp>guest", "resumes the guest"),
    )
