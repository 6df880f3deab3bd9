"""The procedures beside I/O: how a page comes to the guest, moves, is swapped, is looked at by strace, and goes."""

from collections.abc import Callable

from pagewarden.designs.convert import (
    ALLOCATED,
    components,
    donate,
    ended,
    given,
    let_go,
    map_again,
    mapped,
    refused_ends,
    share,
)
from pagewarden.designs.steps import Copy, Do, Hop, Options, Procedure, Say, Steps, Stop, Syscall, held
from pagewarden.law import Op, Owner, Policy


def boot(policy: Policy) -> Procedure:
    """mail of 1 April 2022: a guest starts with an empty stage 2 and faults its pages in."""
    return Procedure("boot", donate(policy), title="a guest's first touch of a page")


def populate(policy: Policy) -> Procedure:
    """mail of 5 April 2022: map, copy, unmap, hand the fd to KVM. What starts shared, or private, is private first:
    guest_memfd.c __kvm_gmem_populate."""
    payload: Steps = (Do(Op.POPULATE, "the payload goes in"), Copy("host", "copies the payload"))
    bound = Say("binds <fd, offset, size> to a memslot")
    if policy.starts is Owner.HOST:
        steps: Steps = (*ALLOCATED, *payload, bound, *given(policy)[len(ALLOCATED) :])
    else:
        steps = (bound, *given(policy), *payload)
    ends = (*mapped(policy, "maps them for the guest"), Hop("hyp>guest", "the guest starts"))
    return Procedure("populate", (*steps, *ends), title="a payload before the guest starts", world="host")


def teardown(policy: Policy) -> Procedure:
    """mem_protect.c __pkvm_host_reclaim_page_guest: page by page, private pages zeroed."""
    ends = ended(policy) if policy.has("notifies") else ()
    steps: Steps = (
        Say("the VM is dying: no vCPU runs"),
        *let_go(policy),
        Hop("host>hyp", "reclaims the page"),
        Do(Op.RECLAIM, "scrubs it if it was private, maps it for the host"),
        Hop("hyp>host"),
        *ends,
    )
    return Procedure("teardown", steps, setup=_used(policy), title="the end of a guest", world="host")


def strace(policy: Policy) -> Procedure:
    """mail of 6 April 2022: strace inspects a pointer to private memory with process_vm_readv."""
    steps: Steps = (
        Say("strace: a process passes a pointer to private memory to a syscall"),
        Syscall("process_vm_readv", access=False),
        Do(Op.GUP_PIN, "pins the page", otherwise=(Stop("EFAULT: GUP is refused"),)),
        Do(Op.KMAP_READ, "reads it through kmap", otherwise=(Stop("no fix-up: the host dies"),)),
        Copy("host", "copies to strace"),
        Do(Op.UNPIN, "lets go"),
    )
    return Procedure("strace", steps, setup=_used(policy), title="process_vm_readv on a private page", world="host")


def _used(policy: Policy) -> Steps:
    """A private page that the guest has written."""
    return (*donate(policy), Do(Op.GUEST_STORE, "writes a secret"))


def _moved(policy: Policy, *inside: Do) -> Steps:
    refused = (*(refused_ends(policy) if policy.has("notifies") else ()), Stop("the page stays where it is"))
    first, *rest = inside
    return (*let_go(policy), Hop("host>hyp", "asks the hypervisor"), Do(first.op, first.text, refused), *rest)


def migrate_page(policy: Policy) -> Procedure:
    """mail of 6 April 2022: hypervisor-assisted migration."""
    steps = (
        *_moved(
            policy,
            Do(Op.MIGRATE_BEGIN, "checks that nobody holds it"),
            Do(Op.MIGRATE_COPY, "copies the page"),
            Do(Op.MIGRATE_COMMIT, "the new frame is the page, the old one is scrubbed"),
        ),
        Hop("hyp>host"),
        *ended(policy),
        *map_again(policy),
    )
    return Procedure("migrate-page", steps, setup=_used(policy), title="a page moves to another frame", world="host")


def swap_out(policy: Policy) -> Procedure:
    """mail of 6 April 2022: swap with the hypervisor's help."""
    steps = (
        *_moved(policy, Do(Op.SWAP_OUT, "seals the page and counts its version")),
        Hop("hyp>host"),
        *ended(policy),
        Syscall("pwrite", "to the swap device", access=False),
    )
    return Procedure("swap-out", steps, setup=_used(policy), title="a page goes to swap", world="host")


def swap_in(policy: Policy) -> Procedure:
    """mail of 6 April 2022; an old or changed copy is refused."""
    out = swap_out(policy)
    steps: Steps = (
        Do(Op.GUEST_LOAD, "touches the page", otherwise=()),
        Hop("guest>hyp", "faults"),
        Hop("hyp>host", "hands the fault to the host"),
        Syscall("pread", "from the swap device", access=False),
        Hop("host>hyp", "hands in the copy"),
        Do(Op.SWAP_IN, "opens it and checks its version"),
        *map_again(policy),
        Hop("hyp>guest", "resumes the guest"),
    )
    return Procedure("swap-in", steps, setup=(*out.setup, *out.steps), title="a page comes back from swap")


def punch(policy: Policy) -> Procedure:
    """guest_memfd.c kvm_gmem_punch_hole: invalidate, truncate, end."""
    ends, stays = (ended(policy), refused_ends(policy)) if policy.has("notifies") else ((), ())
    steps: Steps = (
        Syscall("fallocate", "PUNCH_HOLE", access=False),
        *held(
            policy, "filemap_invalidate_lock",
            *let_go(policy),
            Do(Op.PUNCH, "the page goes", otherwise=(*stays, Stop("the page stays"))),
            *ends,
        ),
    )  # fmt: skip
    given_up = share(Options(), policy) if policy.has("punch-guarded") else ()
    return Procedure("punch", steps, setup=(*_used(policy), *given_up), title="a hole is punched", world="host")


def payload(policy: Policy) -> Procedure:
    """guest_memfd.c __kvm_gmem_populate, of a page that is there: the source is looked up, then it goes in under the
    file's lock."""
    source = Say("gets the page that the payload comes from, which may fault")
    goes_in = Do(Op.POPULATE, "the payload goes in", otherwise=(Stop("the page stays"),))
    if policy.has("gup-under-lock"):
        inside = held(policy, "filemap_invalidate_lock", *held(policy, "mmap_lock", source, goes_in))
    else:
        inside = (*held(policy, "mmap_lock", source), *held(policy, "filemap_invalidate_lock", goes_in))
    steps: Steps = (Syscall("ioctl", "populate", access=False), *inside, Copy("host", "copies the payload"))
    return Procedure("payload", steps, setup=donate(policy), title="a payload goes into one page", world="host")


def lend_hyp(policy: Policy) -> Procedure:
    """mem_protect.c __pkvm_host_share_hyp, __pkvm_host_unshare_hyp."""
    locks, unlocks = components(policy, "host", "hyp")
    lend = Do(Op.SHARE_HYP, "checks that the host owns it, and lends it", otherwise=(Stop("EPERM"),))
    back = Do(Op.UNSHARE_HYP, "checks that nobody pins it, and takes it back", otherwise=(Stop("it stays lent"),))
    steps: Steps = (
        Hop("host>hyp", "lends a page"), *locks, lend, *unlocks, Hop("hyp>host"),
        Hop("host>hyp", "takes it back"), *locks, back, *unlocks, Hop("hyp>host"),
    )  # fmt: skip
    return Procedure("lend-hyp", steps, title="the host lends the hypervisor a page", world="host")


PROCEDURES: dict[str, Callable[[Policy], Procedure]] = {
    "boot": boot, "populate": populate, "teardown": teardown, "strace": strace, "migrate-page": migrate_page,
    "swap-out": swap_out, "swap-in": swap_in, "punch": punch, "payload": payload, "lend-hyp": lend_hyp,
}  # fmt: skip
