"""Share, unshare and donate: the parts of a listing that convert pages, by the hypervisor alone or by the VMM."""

from dataclasses import replace

from pagewarden.designs.steps import Do, Each, Hop, Line, Lock, Options, Say, Steps, Stop, Syscall, held, locked
from pagewarden.law import Op, Owner, Policy

RING = Say("writes a descriptor to the shared virtio ring")
READ_RING = Say("reads the ring: mmapped shared memory")
ALLOCATED: Steps = (Syscall("fallocate", "the fd gets a page", access=False), Do(Op.ALLOCATE, "allocated"))


def doorbell(*between: Line) -> Steps:
    """The exit of the doorbell; the steps between happen in the hypervisor on the way."""
    return (Hop("guest>hyp", "rings the doorbell"), *between, Hop("hyp>host", "exit to the host"), READ_RING)


def resume() -> Steps:
    """Back from the host to the guest."""
    return (Hop("host>hyp", "resumes the guest"), Hop("hyp>guest"))


def let_go(policy: Policy) -> Steps:
    """The store tells KVM, which drops the guest's translation, before a page changes."""
    if not policy.has("notifies"):
        return ()
    told = held(
        policy, "mmu_lock",
        Do(Op.NOTIFY_BEGIN, "the store tells its consumers"),
        Do(Op.GUEST_ZAP, "KVM zaps the guest's entry"),
        Do(Op.GUEST_TLBI, "TLBI"),
    )  # fmt: skip
    return held(policy, "filemap_invalidate_lock", *told) if policy.has("notifier-locks") else told


def ended(policy: Policy) -> Steps:
    """The page has changed, and the consumers are told."""
    return held(policy, "mmu_lock", Do(Op.NOTIFY_END, "the invalidation is over"))


def refused_ends(policy: Policy) -> Steps:
    """The page has not changed, and the consumers are told as well."""
    return ended(policy) if policy.has("refusal-ends") or not policy.has("mmu-lock") else ()


def mapped(policy: Policy, text: str) -> Steps:
    """The guest's entry is set."""
    again = locked(policy, "mmu_lock")[0] if policy.has("faults-under-lock") else ()
    return held(policy, "mmu_lock", *again, Do(Op.GUEST_MAP, text))


def _file_locked(policy: Policy) -> tuple[Steps, Steps]:
    return locked(policy, "filemap_invalidate_lock")


def faulting(policy: Policy, *steps: Line) -> tuple[Steps, Steps]:
    """The steps of a fault of the host's window, and how it gives its locks back."""
    if not policy.has("mmap-lock"):
        return steps, ()
    (outer, *inner), unlocks = locked(policy, "mmap_lock", "filemap_invalidate_lock")
    below = [replace(lock, shared=True) for lock in inner if isinstance(lock, Lock)]
    return (outer, *below, *steps), unlocks


def components(policy: Policy, first: str = "host", second: str = "guest") -> tuple[Steps, Steps]:
    """pKVM's component locks, taken in that order, and given back."""
    return locked(policy, f"{first} component", f"{second} component")


def _get(policy: Policy, text: str, otherwise: Steps | None = None) -> Steps:
    return () if policy.has("emulated") else (Do(Op.KVM_GET, text, otherwise),)


def map_again(policy: Policy) -> Steps:
    """KVM looks the page up and maps it for the guest."""
    return (*_get(policy, "KVM looks the page up", ()), *mapped(policy, "the guest's stage-2 entry is set"))


def refault(policy: Policy) -> Steps:
    """The guest touches a page of its own that it has no entry for, and KVM maps it again."""
    return (
        Do(Op.GUEST_LOAD, "touches the page", otherwise=()),
        Hop("guest>hyp", "faults"),
        Hop("hyp>host", "hands the fault to the host"),
        *_get(policy, "looks it up, or gets it a frame", ()),
        Hop("host>hyp", "asks to map the page"),
        *mapped(policy, "maps it for the guest"),
        Hop("hyp>guest", "resumes the guest"),
    )


def _invalidation_over(policy: Policy, refused: bool = False) -> Steps:
    """Also when the conversion was refused: KVM may not map a page while an invalidation is under way."""
    if not policy.has("two-flavours"):
        return ()
    return (*(refused_ends(policy) if refused else ended(policy)), *_file_locked(policy)[1], *map_again(policy))


def _with_views(policy: Policy, first: Do, *steps: Line) -> Steps:
    """Where the guest's two views are separate entries, the old one goes first and the guest faults on the new one."""
    if not policy.has("two-flavours"):
        return (first, *steps)
    refused = (*_invalidation_over(policy, True), Stop("refused"))
    changed = (replace(first, otherwise=refused), *steps, *_invalidation_over(policy))
    return (*_file_locked(policy)[0], *let_go(policy), *changed)


def _each(options: Options, steps: Steps) -> Steps:
    return steps if options.batch else (Each(steps),)


def _by_vmm(policy: Policy, private: bool) -> Syscall:
    """The call with which a VMM converts."""
    if policy.has("punch-shares"):
        return Syscall("fallocate", "the fd gets a page: private" if private else "PUNCH_HOLE: shared")
    if policy.has("exclusive"):
        if policy.has("keeps-mapping"):
            return Syscall("mprotect", "PROT_NONE: no reference" if private else "permits the page, which takes one")
        return Syscall("munmap" if private else "mmap")
    what = "KVM_SET_MEMORY_ATTRIBUTES" + ("2 of the fd" if policy.has("in-place") else "")
    return Syscall("ioctl", f"{what}: {'private' if private else 'shared'}")


def _to_vmm(policy: Policy) -> Steps:
    """Out to the VMM, where it converts."""
    return (Hop("hyp>host", "leaves to the VMM"),) if policy.has("vmm-converts") else ()


def _from_vmm(policy: Policy) -> Steps:
    return (Hop("host>hyp", "the VMM resumes the guest"),) if policy.has("vmm-converts") else ()


def _recorded(policy: Policy, state: str) -> str:
    return f"records: {state}" + (", and in the table of owners" if policy.has("owner-table") else "")


def take_up(policy: Policy) -> Steps:
    """The hypervisor makes pages shared and gives the host its entry."""
    locks, unlocks = components(policy, *(() if policy.has("locks-ordered") else ("guest", "host")))
    recorded, added = (
        Do(Op.SHARE, f"checks and {_recorded(policy, 'shared')}"),
        Do(Op.HOST_MAP, "adds a PTE for the host"),
    )
    return (*locks, *_with_views(policy, recorded, added), *unlocks)


def taken_up(policy: Policy) -> tuple[Steps, Steps]:
    """What the hypervisor does by itself to make pages shared, and what the VMM then does."""
    if not policy.has("vmm-converts"):
        return take_up(policy), ()
    call = _by_vmm(policy, False)
    if not policy.has("exclusive"):
        return (), (call, *take_up(policy))
    own = (Do(Op.KVM_PUT, "KVM drops its reference"), call, Do(Op.HOST_MMAP, "user space takes one"))
    return take_up(policy), own


def share(options: Options, policy: Policy) -> Steps:
    """By hypercall; the host is not told until it next runs, unless sync-notify, or unless the VMM has to convert."""
    told = options.sync_notify and not policy.has("vmm-converts")
    notice = (Hop("hyp>host", "tells the host"), Hop("host>hyp")) if told else ()
    inside, vmm = taken_up(policy)
    left = (*_to_vmm(policy), *vmm, *_from_vmm(policy))
    return _each(
        options, (Hop("guest>hyp", "shares the page", hypercall=True), *inside, *notice, *left, Hop("hyp>guest"))
    )


def _refused(policy: Policy, options: Options, tries: int) -> Steps:
    """The guest learns that the page stays shared, and may ask again."""
    again: Steps = (Stop("keeps the page shared", ok=True),)
    if tries:
        again = (Hop("guest>hyp", "asks again", hypercall=True), *_taken_back(policy, options, tries - 1))
    return (*_from_vmm(policy), Hop("hyp>guest", "EAGAIN: the host holds a reference"), *again)


def _taken_back(policy: Policy, options: Options, tries: int) -> Steps:
    """Everything between the guest's call and its answer."""
    refused = _refused(policy, options, tries)
    if policy.has("exclusive"):
        return _by_reference(policy, refused)
    vmm = (*_to_vmm(policy), _by_vmm(policy, True)) if policy.has("vmm-converts") else ()
    if policy.has("unmaps-first"):
        return (*vmm, *_unmapped_first(policy, refused), *_from_vmm(policy))
    before = (*_file_locked(policy)[0], *let_go(policy)) if policy.has("two-flavours") else ()
    locks, unlocks = components(policy)
    otherwise = (*_invalidation_over(policy, True), *unlocks, *refused)
    begin = Do(Op.UNSHARE_BEGIN, "checks references", otherwise=otherwise)
    over = (*_invalidation_over(policy), *unlocks)
    return (*vmm, *locks, *before, begin, *take_back(policy), *over, *_from_vmm(policy))


def _unmapped_first(policy: Policy, refused: Steps) -> Steps:
    """The conversion series: the host's entries go, then references are looked for, then the guest's entries go."""
    check = Do(
        Op.UNSHARE_CHECK, "looks for references",
        otherwise=(
            Do(Op.UNSHARE_ABORT, "gives the lock back: the page stays shared"), *_file_locked(policy)[1], *refused
        ),
    )  # fmt: skip
    return (
        *_file_locked(policy)[0],
        Do(Op.UNSHARE_BEGIN, "takes the file's lock"),
        Do(Op.HOST_ZAP, "unmaps it from the host"),
        Do(Op.HOST_TLBI, "TLBI"),
        check,
        *let_go(policy),
        Do(Op.UNSHARE_COMMIT, _recorded(policy, "private")),
        *_invalidation_over(policy),
    )


def _by_reference(policy: Policy, refused: Steps) -> Steps:
    """Exclusive references: the VMM gives its own up, KVM tries to take it, the hypervisor converts."""
    return (
        *_to_vmm(policy),
        _by_vmm(policy, True),
        Do(Op.HOST_MUNMAP, "user space gives its reference up"),
        Do(Op.KVM_GET, "KVM tries to take the reference", otherwise=refused),
        *_from_vmm(policy),
        Do(Op.UNSHARE_BEGIN, "checks that it is shared"),
        *take_back(policy),
    )


def take_back(policy: Policy) -> Steps:
    """Every translation of the host goes before the page is private."""
    device = (Do(Op.IOTLB_INV, "IOTLB invalidated, if anything is in it"),) if policy.has("iommu-guarded") else ()
    return (
        Do(Op.HOST_ZAP, "PTE removed"),
        Do(Op.HOST_TLBI, "TLBI"),
        *device,
        Do(Op.UNSHARE_COMMIT, _recorded(policy, "private")),
    )


def unshare(options: Options, policy: Policy) -> Steps:
    """By hypercall; it may be refused."""
    body = _taken_back(policy, options, options.retries)
    return _each(options, (Hop("guest>hyp", "unshares the page", hypercall=True), *body, Hop("hyp>guest", "done")))


def donate(policy: Policy) -> Steps:
    """From a hole to a page that the guest maps: a fault, the memslot, the fd, the donation. What starts shared is made
    private by the VMM; what starts private needs nothing but the fault."""
    begin = (
        Do(Op.GUEST_LOAD, "touches the page", otherwise=()),
        Hop("guest>hyp", "faults on its empty stage 2"),
        Hop("hyp>host", "hands the fault to the host"),
        Say("finds the memslot: gfn -> fd and offset"),
    )
    return (*begin, *given(policy), *mapped(policy, "maps it for the guest"), Hop("hyp>guest", "resumes the guest"))


def given(policy: Policy) -> Steps:
    """How the host gives the guest a page of its own."""
    map_it = Hop("host>hyp", "asks to map the page")
    if policy.starts is Owner.GUEST or (policy.starts is Owner.SHARED and policy.has("fixed")):
        return (*ALLOCATED, *_get(policy, "looks it up"), map_it)
    if policy.has("punch-shares"):  # that allocates it, too
        return (*_made_private(policy), *_get(policy, "looks it up"), map_it)
    if policy.starts is Owner.SHARED:
        return (*ALLOCATED, *_made_private(policy), *_get(policy, "looks it up"), map_it)
    locks, unlocks = components(policy)
    donation = (*locks, Do(Op.DONATE_BEGIN, "checks that the host owns it"), *take_back(policy), *unlocks)
    return (*ALLOCATED, *_get(policy, "takes a reference"), Hop("host>hyp", "asks to donate the page"), *donation)


def _made_private(policy: Policy) -> Steps:
    call = replace(_by_vmm(policy, True), access=False)
    if policy.has("punch-shares"):
        return (Say("leaves to the VMM: there is no such page"), call, Do(Op.ALLOCATE, "allocated: private"))
    return (
        Say("leaves to the VMM: KVM_EXIT_MEMORY_FAULT"), call, Do(Op.UNSHARE_BEGIN, "the attribute changes"),
        Do(Op.UNSHARE_COMMIT, _recorded(policy, "private")),
    )  # fmt: skip
