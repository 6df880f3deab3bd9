"""The seven I/O designs in the order and words of the mail of 5 April 2022, one request each, and a later proposal."""

from dataclasses import replace

from pagewarden.designs.convert import RING, donate, doorbell, faulting, resume, share, taken_up, unshare
from pagewarden.designs.steps import Copy, Design, Do, Give, Hop, Options, Procedure, Say, Steps, Stop, Syscall, Take
from pagewarden.law import Op, Policy
from pagewarden.vocab import one_of


def _disk(write: bool) -> Syscall:
    return Syscall("pwrite" if write else "pread", "does the I/O", access=False)


def _around(host: Steps, options: Options, policy: Policy, name: str, title: str) -> Procedure:
    """Share, doorbell, the host's part, resume, unshare: what four of the designs have in common."""
    steps = (*share(options, policy), RING, *doorbell(), *host, *resume(), *_leave(options, policy))
    return Procedure(name, steps, setup=donate(policy), title=title)


def _leave(options: Options, policy: Policy) -> Steps:
    return (Say("leaves the page shared; a later call takes back many"),) if options.lazy else unshare(options, policy)


def _by_mapping(
    options: Options, policy: Policy, write: bool, pool: bool = False, otherwise: Steps | None = None
) -> Steps:
    """The host's part through a mapping: memcpy and I/O, or the I/O straight from the mapping (in-place)."""
    if options.in_place:
        op = Op.UACCESS_READ if write else Op.UACCESS_WRITE
        return (_disk(write), Do(op, "straight from the mapping", otherwise, pool))
    _, unlocks = faulting(policy)
    refused = None if otherwise is None else (*unlocks, *otherwise)
    locked, _ = faulting(policy, Do(Op.HOST_LOAD if write else Op.HOST_STORE, "memcpy, it just works", refused, pool))
    touch = (*locked, *unlocks, Copy("host", "copies the bytes"))
    return (*touch, _disk(write)) if write else (_disk(write), *touch)


def dma_buffer(options: Options, policy: Policy, write: bool) -> Procedure:
    """The guest's I/O buffers lie in memory that was shared once. The guest copy is the one its user space asks for."""
    before: Steps = (Do(Op.GUEST_STORE, "writes the shared DMA buffer"), Copy("guest", "from its user space"))
    after: Steps = (Do(Op.GUEST_LOAD, "reads the shared DMA buffer"), Copy("guest", "to its user space"))
    host = _by_mapping(options, policy, write)
    steps = (*(before if write else ()), RING, *doorbell(), *host, *resume(), *(() if write else after))
    once = (*donate(policy), *share(Options(), policy))
    return Procedure("dma-buffer", steps, setup=once, title="the guest allocates I/O buffers in memory shared once")


def bounce(options: Options, policy: Policy, write: bool, place: str = "pool") -> Procedure:
    """The guest copies between its private pages and a shared pool (swiotlb); the guest copy is an extra one. place:
    what a listing calls the pool."""
    out: Steps = (Do(Op.GUEST_LOAD, "reads its private page"), Do(Op.GUEST_STORE, f"writes the {place}", pool=True))
    back: Steps = (Do(Op.GUEST_LOAD, f"reads the {place}", pool=True), Do(Op.GUEST_STORE, "writes its private page"))
    io = (RING, *doorbell(), *_by_mapping(options, policy, write, pool=True), *resume())
    before = (*out, Copy("guest", "bounces")) if write else ()
    after = () if write else (*back, Copy("guest", "bounces"))
    full = (Say(f"the {place} is exhausted: no slot"), Stop("the request has to wait for a slot"))
    steps = (Take("pool", (*before, *io, *after, Give("pool")), full, f"takes slots in the {place}"),)
    once = (*donate(policy), *share(Options(), policy))
    return Procedure(
        "bounce", steps, setup=donate(policy), pool_setup=once, title="the guest copies through a shared pool"
    )


def dmb(options: Options, policy: Policy, write: bool) -> Procedure:
    """As VIRTIO_F_DMB is proposed (virtio-comment, 4 August 2026): rings and buffers lie in a region of the device's
    own, named by offsets in it, and the driver copies. To the law it is a pool; whose it is, no page says."""
    title = "the guest copies through a region of the device's own (VIRTIO_F_DMB, proposed: no guest has it)"
    return replace(bounce(options, policy, write, "device's region"), name="dmb", title=title)


def remap(options: Options, policy: Policy, write: bool) -> Procedure:
    """Share, host mmap + munmap, unshare: zero copy, two syscalls and one more TLBI."""
    host: Steps = (
        Syscall("mmap"),
        Do(Op.HOST_MMAP, "maps the page"),
        _disk(write),
        Do(Op.UACCESS_READ if write else Op.UACCESS_WRITE, "straight from the mapping"),
        Syscall("munmap"),
        Do(Op.HOST_MUNMAP, "unmaps it"),
        Do(Op.HOST_TLBI, "TLBI"),
    )
    return _around(host, options, policy, "remap", "share, host mmap + munmap, unshare")


def pread(options: Options, policy: Policy, write: bool) -> Procedure:
    """Share, pread() or pwrite() on the private fd, unshare."""
    name, op = ("pread", Op.KMAP_READ) if write else ("pwrite", Op.KMAP_WRITE)
    access: Steps = (
        Syscall(name, "on the private fd"),
        Do(Op.FD_GET, "a reference while it copies"),
        Do(op, "through the kernel's mapping"),
        Copy("host", "the kernel copies"),
        Do(Op.UNPIN, "the reference goes"),
    )
    host = (*access, _disk(write)) if write else (_disk(write), *access)
    return _around(host, options, policy, "pread", "share, host pread() on the private fd, unshare")


def splice(options: Options, policy: Policy, write: bool) -> Procedure:
    """Share, splice() from the private fd, unshare: the pipe holds the pages, nobody copies."""
    host: Steps = (
        Syscall("splice", "from the private fd" if write else "to the private fd"),
        Do(Op.FD_GET, "the pipe holds the page"),
        _disk(write),
        Do(Op.KMAP_READ if write else Op.KMAP_WRITE, "the I/O uses the page itself"),
        Do(Op.UNPIN, "the pipe lets go"),
    )
    return _around(host, options, policy, "splice", "share, host splice() from the private fd, unshare")


def window(options: Options, policy: Policy, write: bool) -> Procedure:
    """Share, the special mapping that is always there, unshare."""
    return _around(
        _by_mapping(options, policy, write),
        options,
        policy,
        "window",
        "share, the mapping that is always there, unshare",
    )


def iommu(options: Options, policy: Policy, write: bool) -> Procedure:
    """Share by an I/O page-table entry; the hypervisor takes up the ring of new entries while it handles the exit."""
    up, vmm = taken_up(policy)
    fault = (Hop("host>hyp", "faults"), *up, Hop("hyp>host", "tries again"), *vmm, *_touch(options, policy, write))
    known = (*doorbell(*up, Give("ring")), *vmm, *_by_mapping(options, policy, write))
    unknown = (*doorbell(), *_by_mapping(options, policy, write, otherwise=fault))
    steps = (
        Do(Op.OFFER, "shares by writing an I/O PTE: no hypercall"),
        RING,
        Take("ring", known, unknown, "the entry is listed in the ring of recent PTEs"),
        *resume(),
        *_leave(options, policy),
    )
    return Procedure("iommu", steps, setup=donate(policy), title="share by an I/O PTE, taken up at the doorbell")


def _touch(options: Options, policy: Policy, write: bool) -> Steps:
    """The access that faulted, once more."""
    return tuple(step for step in _by_mapping(options, policy, write) if isinstance(step, Do))


DESIGNS: dict[str, Design] = {
    name: Design(name, build)
    for name, build in {
        "dma-buffer": dma_buffer, "bounce": bounce, "remap": remap, "pread": pread, "splice": splice, "window": window,
        "iommu": iommu,
    }.items()
}  # fmt: skip


WITH_PROPOSED: dict[str, Design] = DESIGNS | {"dmb": Design("dmb", dmb)}
"""With those that are only proposed: what can be asked for by name, but no guest of `run` does."""


def design_named(name: str) -> Design:
    """The design of that name; UserMistake lists the names."""
    return WITH_PROPOSED[one_of("design", name, WITH_PROPOSED)]
