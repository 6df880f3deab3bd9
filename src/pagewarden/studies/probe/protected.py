"""What the law of pKVM says of a cell: a way, tried on a page of a protected VM, and what host and guest find then."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeAlias

from pagewarden.designs import Do, follow
from pagewarden.designs.convert import donate, refault, share, unshare
from pagewarden.designs.steps import Options, Steps
from pagewarden.law import POLICIES, Data, Op, Outcome, Owner, Page, Policy, Step, apply, calls, start
from pagewarden.law.ops import HOST_READS, HOST_WRITES
from pagewarden.probe.pkvm import HANGS
from pagewarden.probe.registry import Direction
from pagewarden.studies.probe.expected import (
    LOOK,
    PINNED_CHANGE,
    PINNED_LOOK,
    READ,
    SCRIPTS,
    TOUCHED,
    TURN,
    WRITE,
    Turn,
)
from pagewarden.vocab import PAGE_SIZE


class Child(Enum):
    """COPY: what a child has of a page that is private to its process."""

    COPY = auto()


COPY = Child.COPY
WayScript: TypeAlias = tuple[Op | Turn | Child, ...]
BY_DMA = (Op.DMA_MAP, Op.DMA_READ, Op.DMA_UNMAP, Op.IOTLB_INV, Op.UNPIN)
CHANGED_BY_DMA = (Op.DMA_MAP, Op.DMA_WRITE, Op.DMA_UNMAP, Op.IOTLB_INV, Op.UNPIN)
WAYS: dict[tuple[str, Direction], WayScript] = {
    **SCRIPTS,
    ("nothing", READ): (),
    ("mlock-only", READ): TOUCHED,
    ("execute", READ): (Op.HOST_LOAD,),
    ("pread-memfd", READ): (Op.FD_GET, Op.KMAP_READ, Op.UNPIN),
    ("pwrite-memfd", WRITE): (Op.FD_GET, Op.KMAP_WRITE, Op.UNPIN),
    ("sendfile-memfd", READ): (Op.FD_GET, Op.KMAP_READ, Op.UNPIN),
    ("punch", WRITE): (Op.PUNCH,),
    ("second-mapping", READ): (Op.HOST_MMAP, Op.ALIAS_LOAD),
    ("munmap", WRITE): (Op.MREMAP,),
    ("mremap", READ): (Op.MREMAP, Op.ALIAS_LOAD),
    ("mprotect-none", WRITE): (Op.MPROTECT,),
    ("pinned", READ): (Op.GUP_PIN, TURN),
    ("fork-untouched", READ): (Op.FORK,),
    ("fork-kept", READ): (),
    ("fork-all", READ): (Op.FORK,),
    ("map-fixed", WRITE): (Op.HOST_DROP, Op.HOST_STORE),
    ("madvise-free-only", WRITE): (),
    ("pre-fault", READ): (),
    ("close-vm", READ): (Op.RECLAIM, Op.HOST_LOAD),
    ("slot-delete", WRITE): (Op.SLOT_DELETE,),
    ("kcore", READ): (Op.KCORE_READ,),
    ("guest-share", READ): (Op.SHARE, Op.HOST_MAP),
    ("guest-unshare", READ): (Op.UNSHARE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT),
    ("o_direct-write-ram", READ): PINNED_LOOK,
    ("o_direct-read-ram", WRITE): PINNED_CHANGE,
    ("o_direct-write-virtio", READ): (Op.GUP_PIN, *BY_DMA),
    ("o_direct-read-virtio", WRITE): (Op.GUP_PIN, *CHANGED_BY_DMA),
    ("o_direct-write-in-flight-ram", READ): (Op.GUP_PIN, TURN, Op.KMAP_READ),
    ("o_direct-read-in-flight-ram", WRITE): (Op.GUP_PIN, TURN, Op.KMAP_WRITE),
    ("o_direct-write-in-flight-virtio", READ): (Op.GUP_PIN, TURN, *BY_DMA),
    ("o_direct-read-in-flight-virtio", WRITE): (Op.GUP_PIN, TURN, *CHANGED_BY_DMA),
    ("aio-pwrite-ram", READ): PINNED_LOOK,
    ("aio-pread-ram", WRITE): PINNED_CHANGE,
    ("aio-pwrite-virtio", READ): (Op.GUP_PIN, *BY_DMA),
    ("aio-pread-virtio", WRITE): (Op.GUP_PIN, *CHANGED_BY_DMA),
    ("madvise-dontneed", WRITE): (Op.HOST_DROP,),
    ("madvise-dontneed", READ): (Op.HOST_DROP, *LOOK),
    ("tee-before", READ): (*PINNED_LOOK, TURN, Op.KMAP_READ),
    ("madvise-dofork", READ): (Op.FORK, Op.ALIAS_LOAD),
    ("madvise-dofork-before", READ): (Op.FORK, Op.ALIAS_LOAD, TURN, Op.ALIAS_LOAD),
}
"""The operations of each way, those of the probe's own paths among them."""

_ASKED = """
    close-vm execute fork fork-all fork-kept fork-untouched futex-wait load madvise-dontneed madvise-free-only
    madvise-pageout madvise-remove map-fixed mincore mlock-only mprotect-none mremap munmap nothing
    o_direct-read-ram o_direct-read-virtio o_direct-write-ram o_direct-write-virtio pinned pre-fault pread-memfd
    proc-pid-mem process_vm_readv-peer process_vm_writev-peer ptrace-peek ptrace-poke punch pwrite-memfd read-pipe
    second-mapping sendfile-memfd slot-delete store vmsplice write-pipe
"""
for _direction, _use in ((READ, Op.ALIAS_LOAD), (WRITE, Op.ALIAS_STORE)):
    WAYS["fork-before", _direction] = (Op.FORK, _use, TURN, _use)  # the child looks before, too
    for _name in ("mremap-dontunmap", "mremap-dup", "remap_file_pages"):  # of a file the page stays where it was
        WAYS[_name, _direction] = (Op.HOST_MMAP, _use)
        WAYS[f"{_name}-before", _direction] = (Op.HOST_MMAP, TURN, _use)

OF_ANONYMOUS: dict[tuple[str, Direction], WayScript] = {
    ("fork", READ): (Op.FORK, COPY),
    ("fork", WRITE): (Op.FORK,),
    ("fork-before", READ): (Op.FORK, COPY, TURN),
    ("fork-before", WRITE): (Op.FORK, TURN),
    ("madvise-dofork", READ): (Op.FORK, COPY),
    ("madvise-dofork-before", READ): (Op.FORK, COPY, TURN),
}
"""Where a private mapping is another thing than a file's: a child has copies."""
REFUSED = {
    "mremap-dup": "EINVAL", "mremap-dup-before": "EINVAL", "remap_file_pages": "EINVAL", "map_files": "ENOENT",
    "proc-fd": "ENOENT", "pidfd_getfd": "ENOENT", "sendfile": "ENOENT", "splice-fd": "ENOENT",
}  # fmt: skip
"""Ways that need a file, and what they come to without one."""
NOT_SAID = frozenset({("mremap-dontunmap", "anonymous"), ("mremap-dontunmap-before", "anonymous")})
"""Where the law is silent: the page stays where it was, as another frame."""
BY_CALL = frozenset(
    ("mremap", "mremap-dontunmap", "mremap-dontunmap-before", "mremap-dup", "mremap-dup-before", "remap_file_pages",
     "map_files", "proc-fd", "pidfd_getfd", "mprotect", "madvise-dofork", "madvise-dofork-before")
)  # fmt: skip
"""Ways whose look at the page is a system call's: EFAULT where the CPU's own gets a signal."""

ASKED = frozenset(_ASKED.split())
"""The ways that a kernel with pKVM was asked, each in five states of a page, over a memfd and over anonymous memory."""
BLIND = frozenset({"execute"})
"""Ways that read the page and do not tell what they saw."""
_CALLS: dict[str, Callable[[Policy], Outcome]] = {
    "madvise-free-only": lambda policy: calls.madvise_free(policy.has("anonymous")),
    "pre-fault": lambda policy: calls.pre_fault(0, PAGE_SIZE, (0, PAGE_SIZE), offered=False)[0],
}
"""Calls that are answered, or leave the page as it is, before they come to it."""
_ANSWERS = dict.fromkeys(("EHWPOISON", "EPERM", "ENOENT"), "INVALID_PARAMETER")
"""What pKVM tells its guest of a call that it refuses (arch/arm64/kvm/hyp/nvhe/pkvm.c, SMCCC_RET_INVALID_PARAMETER)."""


@dataclass(frozen=True)
class Standing:
    """A page, and its bytes in words: what the guest's frame holds, and what the host finds where that is another."""

    page: Page
    holds: str
    other: str = "zero"
    saw: str | None = None


@dataclass(frozen=True)
class Foreseen:
    """What the law says of a cell; words as in a cell. None: it says nothing."""

    host: str | None
    saw: str | None
    then: str | None
    guest: str | None


def foreseen(cell: Mapping[str, object]) -> Foreseen | None:
    """None for a way that the law has no operations for."""
    way, direction = str(cell["way"]), Direction(str(cell["direction"]))
    policy, script, refused = POLICIES["pkvm"], WAYS.get((way, direction)), None
    if cell["backing"] == "anonymous":
        policy, script = policy.with_("anonymous"), OF_ANONYMOUS.get((way, direction), script)
        refused = REFUSED.get(way)
    if script is None or (way, cell["backing"]) in NOT_SAID:
        return None
    since, state = str(cell.get("since") or cell["state"]), str(cell["state"])
    here, error = _used(policy, () if refused else script, since, state, way)
    host: str | None = refused or ("ok" if error is None else error.name)
    saw = here.saw if direction is READ and host == "ok" and way not in BLIND else None
    if since != state == "shared" and here.page.owner is Owner.POISON:
        host, saw = None, None  # the guest's own step is refused: the page was taken from it
    elif way in HANGS and host == "EFAULT":
        return Foreseen("UNKILLABLE", None, None, None)
    elif way == "execute" and error is None:
        host = "SIGILL"  # it was fetched, and is no instruction
    elif way in ("guest-share", "guest-unshare"):
        host = _ANSWERS.get(str(host), host)
    elif way in BY_CALL and host == "SIGSEGV":
        host = "EFAULT"
    elif way == "core-dump" and saw == "zero":
        host, saw = "EFAULT", None  # a page of zeroes is a hole in a core
    load = apply(policy, here.page, Op.HOST_LOAD)
    then = _seen(here, load) if load.outcome is Outcome.DONE else load.outcome.name
    return Foreseen(host, saw, "unmapped" if Op.MREMAP in script else then, _found(policy, here, way))


def _used(
    policy: Policy, script: WayScript, since: str, state: str, way: str
) -> tuple[Standing, Outcome | None]:  # fmt: skip
    """A way tried on a page that was in one state, and is in another at its turn."""
    turn = script.index(TURN) if TURN in script else 0
    here, error = _tried(policy, _into(policy, since), script[:turn])
    if way == "guest-share" and here.page.owner is Owner.HOST:
        here = _procedure(policy, here, donate(policy))  # ENOENT makes KVM map it, and the guest tries again
    if since != state:
        saw = "stale" if state == "unshared" and here.saw == "secret" else here.saw
        here = replace(_last_step(policy, here, state), saw=saw)
    answer = _CALLS[way](policy) if way in _CALLS else Outcome.DONE
    if answer is not Outcome.DONE:
        return here, answer
    if error is not None:
        return here, error
    if way == "map-fixed":  # what lies there from now on is anonymous memory
        policy = policy.with_("anonymous")
    return _tried(policy, here, script[turn + (TURN in script) :])


def _found(policy: Policy, here: Standing, way: str) -> str:
    """What the guest finds; it runs on, unless a fork of all of the memory took the page that its code is on."""
    if way == "close-vm":
        return "closed"
    if way == "fork-all" and _tried(policy, _into(policy, "private"), (Op.FORK,))[0].page.owner is Owner.POISON:
        return "EFAULT"
    return _by_guest(policy, here)


def _tried(policy: Policy, here: Standing, ops: WayScript) -> tuple[Standing, Outcome | None]:
    """The host's operations, up to the first that is refused."""
    for op in ops:
        if op is COPY:
            here = replace(here, saw=here.holds)
            continue
        assert isinstance(op, Op)
        if op is Op.RECLAIM and here.page.owner is Owner.HOST:
            continue  # the VM goes, and it has nothing of it
        here, step = _done(policy, here, op)
        if step.outcome is not Outcome.DONE:
            return here, step.outcome
    return here, None


def _done(policy: Policy, here: Standing, op: Op) -> tuple[Standing, Step]:
    """One operation, and what it makes of the bytes."""
    step = apply(policy, here.page, op)
    before, page = here.page, step.page
    zeroed = page.data is Data.ZERO and before.data is not Data.ZERO
    taken = page.owner is Owner.POISON and before.owner is not Owner.POISON
    here = replace(here, page=page, holds="zero" if zeroed or taken else here.holds)
    if op in HOST_READS and step.outcome is Outcome.DONE:
        here = replace(here, saw=_seen(here, step))
    if op in HOST_WRITES and step.outcome is Outcome.DONE:
        here = replace(here, holds="mark") if step.reached else replace(here, other="mark")
    if page.apart and not before.apart:
        here = replace(here, other="zero")
    return here, step


def _seen(here: Standing, step: Step) -> str:
    """What a read that was done sees: the page's bytes, or those of whatever else lies there."""
    return here.holds if step.reached else here.other


def _procedure(policy: Policy, here: Standing, steps: Steps) -> Standing:
    def act(line: Do) -> bool:
        nonlocal here
        here, step = _done(policy, here, line.op)
        return step.outcome is Outcome.DONE

    follow(steps, act)
    return here


BEFORE = {"private": "host", "shared": "private", "unshared": "shared", "poison": "private"}
"""The state that each comes from."""


def _into(policy: Policy, state: str) -> Standing:
    """A page on which nobody has tried anything, in a state."""
    if state == "host":
        return Standing(apply(policy, start(policy), Op.POPULATE).page, "host")
    return replace(_last_step(policy, _into(policy, BEFORE[state]), state), saw=None)


def _last_step(policy: Policy, here: Standing, state: str) -> Standing:
    """From the state before it into a state."""
    if state == "private":
        return _written(policy, _procedure(policy, here, donate(policy)), "secret")
    if state == "shared":
        return _procedure(policy, here, share(Options(), policy))
    if state == "unshared":
        here = _procedure(policy, here, (Do(Op.UACCESS_READ), *unshare(Options(), policy)))
        return _written(policy, replace(here, holds="stale" if here.holds == "secret" else here.holds), "secret")
    return _procedure(policy, here, (Do(Op.GUP_PIN), Do(Op.KMAP_READ), Do(Op.UNPIN)))


def _written(policy: Policy, here: Standing, what: str) -> Standing:
    """The guest writes the whole page."""
    here, step = _done(policy, here, Op.GUEST_STORE)
    return replace(here, holds=what) if step.outcome is Outcome.DONE else here


def _by_guest(policy: Policy, here: Standing) -> str:
    """What the guest's load of the page comes to, KVM's help included."""
    page = here.page
    for steps in (donate(policy) if page.owner is Owner.HOST else refault(policy), ()):
        step = apply(policy, here.page, Op.GUEST_LOAD)
        if step.outcome is Outcome.DONE:
            return here.holds
        if step.outcome is Outcome.GUEST_KILLED:
            return "EFAULT"
        here = _procedure(policy, here, steps)
    return "EFAULT"
