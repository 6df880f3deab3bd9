"""What the law expects of each path: its operations, folded over the law from the page's state."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from pagewarden.designs import Do, Options, Steps, follow
from pagewarden.designs.convert import donate, share, unshare
from pagewarden.law import Op, Outcome, Owner, Page, Policy, apply, start
from pagewarden.law.ops import HOST_READS, HOST_WRITES
from pagewarden.memory.isolated.allowed import HARMLESS_ADVICE, NAMES
from pagewarden.probe.registry import Direction, Path
from pagewarden.probe.trial import State, TrialResult
from pagewarden.vocab import InternalError


class Turn(Enum):
    """Where in a script the last conversion lies, when it is not the first thing."""

    TURN = auto()


TURN = Turn.TURN
Script: TypeAlias = tuple[Op | Turn, ...]

READ, WRITE = Direction.READ, Direction.WRITE
LOOK, CHANGE = (Op.UACCESS_READ,), (Op.UACCESS_WRITE,)
PINNED_LOOK, PINNED_CHANGE = (Op.GUP_PIN, Op.KMAP_READ), (Op.GUP_PIN, Op.KMAP_WRITE)
HELD_LOOK, HELD_CHANGE = (Op.GUP_PIN, TURN, Op.KMAP_READ), (Op.GUP_PIN, TURN, Op.KMAP_WRITE)
ALIAS = {READ: Op.ALIAS_LOAD, WRITE: Op.ALIAS_STORE}
TOUCHED = Op.GUP_PIN, Op.UNPIN  # taken by GUP and let go again

SCRIPTS: dict[tuple[str, Direction], Script] = {
    ("load", READ): (Op.HOST_LOAD,),
    ("store", WRITE): (Op.HOST_STORE,),
    ("futex-wait", READ): (*TOUCHED, *LOOK),  # a shared futex's key is found by GUP (kernel/futex/core.c)
    ("futex-wake-op", WRITE): (*TOUCHED, *CHANGE),
    ("mlock", READ): (*TOUCHED, *LOOK),
    ("mlock-before", READ): (*TOUCHED, TURN, *LOOK),
    ("mincore", READ): (),
    ("pagemap", READ): (),
    ("vmsplice-into", WRITE): CHANGE,
    ("splice", READ): PINNED_LOOK,
    ("splice-to-file", READ): PINNED_LOOK,
    ("sendfile", READ): (Op.FD_GET, Op.KMAP_READ),
    ("splice-fd", READ): (Op.FD_GET, Op.KMAP_READ),
    # the warden's own mapping, by GUP
    ("ptrace-attach", READ): (Op.FD_GET, Op.KMAP_READ),
    ("warden-mem", READ): (Op.FD_GET, Op.KMAP_READ),
    ("warden-mem", WRITE): (Op.FD_GET, Op.KMAP_WRITE),
    ("core-dump", READ): PINNED_LOOK,
    ("madvise-dontneed", READ): (Op.HOST_DROP, *LOOK),
    ("madvise-dontneed", WRITE): (),
    ("madvise-pageout", WRITE): (),
    ("madvise-remove", READ): (Op.HOST_DISCARD, *LOOK),
    ("madvise-remove", WRITE): (Op.HOST_DISCARD,),
    # a child's copy of the window, made on purpose, is one more mapping outside the guard, as a moved one is
    ("madvise-dofork", READ): (Op.MREMAP, Op.ALIAS_LOAD),
    ("madvise-dofork-before", READ): (Op.MREMAP, TURN, Op.ALIAS_LOAD),
    ("kvm-memslot", READ): PINNED_LOOK,
    ("kvm-memslot", WRITE): PINNED_CHANGE,
    ("kvm-memslot-before", READ): (*TOUCHED, TURN, *PINNED_LOOK),
    ("kvm-memslot-before", WRITE): (*TOUCHED, TURN, *PINNED_CHANGE),
    ("mprotect", READ): (Op.MPROTECT, Op.ALIAS_LOAD),
    ("mprotect", WRITE): (Op.MPROTECT, Op.ALIAS_STORE),
}
"""The operations of each path, the only knowledge of it on this floor; families follow."""


def _family(script: Script, direction: Direction, names: str) -> None:
    for name in names.split():
        SCRIPTS[name, direction] = script


_ADVICE = "free willneed cold pageout populate-read populate-write dontfork mergeable hugepage guard-remove collapse"
_family(LOOK, READ, " ".join(f"madvise-{name}" for name in _ADVICE.split()))
_family(LOOK, READ, "write-file write-pipe write-socket writev pwritev io_uring-write userfaultfd-on-top")
_family(CHANGE, WRITE, "read-file read-pipe read-socket readv preadv io_uring-read userfaultfd-on-top")
_family(PINNED_LOOK, READ, "o_direct-write aio-pwrite ptrace-peek vmsplice tee msg_zerocopy io_uring-write-fixed")
_family(PINNED_LOOK, READ, "process_vm_readv-self process_vm_readv-peer proc-self-mem proc-pid-mem")
_family(PINNED_CHANGE, WRITE, "o_direct-read aio-pread ptrace-poke io_uring-read-fixed")
_family(PINNED_CHANGE, WRITE, "process_vm_writev-self process_vm_writev-peer proc-self-mem proc-pid-mem")
_family(HELD_LOOK, READ, "o_direct-write-in-flight vmsplice-before tee-before msg_zerocopy-before")
_family(HELD_LOOK, READ, "io_uring-write-registered-before")
_family(HELD_CHANGE, WRITE, "o_direct-read-in-flight io_uring-read-registered-before")
for _direction, _use in ALIAS.items():
    _family((Op.FORK, _use), _direction, "fork")
    _family((Op.FORK, TURN, _use), _direction, "fork-before")
    _family((Op.MREMAP, _use), _direction, "mremap mremap-dontunmap mremap-dup remap_file_pages")
    _family((Op.MREMAP, TURN, _use), _direction, "mremap-dontunmap-before mremap-dup-before")
    _family((Op.FD_GET, Op.UNPIN, Op.HOST_MMAP, _use), _direction, "map_files proc-fd")
    _family((Op.HOST_MMAP, _use), _direction, "pidfd_getfd warden-mapping userfaultfd-kept userfaultfd-unregister")


@dataclass(frozen=True, slots=True)
class Expected:
    """The law's answer; error: the outcome's name where an operation was refused or trapped, last: that operation."""

    result: TrialResult
    error: str | None = None
    last: Op | None = None


def forbidden(path: Path) -> str | None:
    """The errno with which the untrusted host side's room refuses a path, whatever the page is; None where it does not.
    EPERM: its filter, for a call that the path cannot do without. ENOBUFS: its RLIMIT_MEMLOCK of 0, for zero-copy
    (net/core/skbuff.c, mm_account_pinned_pages)."""
    denied = any(call not in NAMES for call in path.calls)
    if denied or (path.advice is not None and path.advice not in HARMLESS_ADVICE):
        return "EPERM"
    return "ENOBUFS" if path.locks else None


def expected(policy: Policy, script: Script, direction: Direction, state: State) -> Expected:
    """Fold a path's script over the law, the page in that state when it is used."""
    if TURN not in script:
        script = (TURN, *script)
    turn = script.index(TURN)
    shared = () if state is State.PRIVATE else share(Options(), policy)
    page, refused = _warden(policy, start(policy), (*donate(policy), *shared))
    if refused is not None:
        raise InternalError(f"{policy.name}: {refused.last} is refused ({refused.error}) on a page nobody holds")
    page, before = _attack(policy, page, script[:turn], direction)
    if before.error is not None:
        return before
    if state is State.AGAIN:
        page, refused = _warden(policy, page, unshare(Options(), policy))
        if refused is not None:
            return refused
    return _attack(policy, page, script[turn + 1 :], direction)[1]


def _warden(policy: Policy, page: Page, steps: Steps) -> tuple[Page, Expected | None]:
    """The page after the warden's own procedure, and its first operation that was refused."""
    refusals: list[Expected] = []

    def act(line: Do) -> bool:
        nonlocal page
        step = apply(policy, page, line.op)
        page, done = step.page, step.outcome is Outcome.DONE
        if not done and line.otherwise != ():
            refusals.append(Expected(TrialResult.REFUSED, step.outcome.name, line.op))
        return done

    follow(steps, act)
    return page, refusals[0] if refusals else None


def _attack(policy: Policy, page: Page, ops: Script, direction: Direction) -> tuple[Page, Expected]:
    """The worst that the host's operations come to, up to the first that is refused."""
    worst = TrialResult.ALLOWED
    for op in ops:
        if op is TURN:
            raise InternalError("a script turns once")
        step = apply(policy, page, op)
        worst = max(worst, _harm(page, op, step.reached, direction), key=SEVERITY.index)
        if step.outcome is not Outcome.DONE:
            result = TrialResult.REFUSED if worst is TrialResult.ALLOWED else worst
            return page, Expected(result, step.outcome.name, op)
        page = step.page
    return page, Expected(worst)


CHANGES = HOST_WRITES | {Op.HOST_DISCARD}
"""After which the canary is another: what was written, or the zeroes of a hole."""
SEVERITY = [TrialResult.ALLOWED, TrialResult.LEAK, TrialResult.TORN]


def _harm(page: Page, op: Op, reached: bool, direction: Direction) -> TrialResult:
    private = page.owner is not Owner.SHARED
    if reached and op in CHANGES and (private or direction is READ):
        return TrialResult.TORN
    if reached and op in HOST_READS and private:
        return TrialResult.LEAK
    return TrialResult.ALLOWED
