"""The steps that procedures are written in. A procedure reads like the listing of the mail that it comes from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from pagewarden.law import LOCKS, Op, Policy
from pagewarden.vocab import EDGES

WORLDS = {"guest": "guest", "hyp": "hypervisor", "host": "host"}
"""The worlds between which hops go, and their names in a listing."""


@dataclass(frozen=True)
class Hop:
    """A transition between worlds, `***` in a listing. hypercall: the guest asks the hypervisor for something."""

    edge: str
    text: str = ""
    hypercall: bool = False

    def __post_init__(self) -> None:
        assert self.edge in EDGES, self.edge


@dataclass(frozen=True)
class Syscall:
    """A system call of the host. access: it only gives access to the bytes, and is counted; else it does the I/O."""

    name: str
    text: str = ""
    access: bool = True


@dataclass(frozen=True)
class Copy:
    """A copy of the request's bytes by the guest or the host."""

    side: str
    text: str = ""


@dataclass(frozen=True)
class Say:
    """Something that is told but not counted: a descriptor is written, a ring is read."""

    text: str


@dataclass(frozen=True)
class Do:
    """An operation of the law on the request's pages, or on those of the pool. All pages or none.

    otherwise: what happens when the law refuses; None means that the request fails there.
    """

    op: Op
    text: str = ""
    otherwise: "tuple[Line, ...] | None" = None
    pool: bool = False


@dataclass(frozen=True)
class Each:
    """The steps once for each page instead of once for the range (no batching)."""

    steps: "tuple[Line, ...]"


@dataclass(frozen=True)
class Take:
    """Take an entry a page of a bounded resource (`pool`, `ring`), if there are that many."""

    resource: str
    then: "tuple[Line, ...]"
    otherwise: "tuple[Line, ...]"
    text: str = ""


@dataclass(frozen=True)
class Give:
    """Give back what was taken."""

    resource: str
    text: str = ""


@dataclass(frozen=True)
class Stop:
    """The request ends here. ok: it counts as completed all the same (a page stayed shared)."""

    text: str
    ok: bool = False


@dataclass(frozen=True)
class Lock:
    """Wait for a lock of the kernel (`law.locks`) and hold it, until `Unlock` or the end of the procedure."""

    name: str
    shared: bool = False
    op: None = None  # it touches no page
    text: str = ""


@dataclass(frozen=True)
class Unlock:
    """Let go of a lock."""

    name: str


Line: TypeAlias = Hop | Syscall | Copy | Say | Do | Each | Take | Give | Stop | Lock | Unlock
Steps: TypeAlias = tuple[Line, ...]
RESOURCES = ("pool", "ring")


def said(line: Line) -> str:
    """What a listing says of a line; *** marks a transition between worlds."""
    match line:
        case Hop(edge, text):
            left, right = (WORLDS[world] for world in edge.split(">"))
            return f"*** {left} -> {right}" + (f": {text}" if text else "")
        case Syscall(name, text, access):
            return f"{name}(){'' if access else ' [the I/O itself, not counted]'} {text}".rstrip()
        case Copy(_, text):
            return f"copy: {text}"
        case Do(op, text):
            return f"{op.key}: {text}"
        case Take(resource, text=text):
            return f"{resource}: {text}"
        case Give(resource):
            return f"{resource}: given back"
        case Say(text) | Stop(text):
            return text
        case Lock(name, shared):
            return f"takes {name}{' (shared)' if shared else ''}"
        case Unlock(name):
            return f"lets go of {name}"
        case Each():
            return "for each page:"


@dataclass(frozen=True)
class Procedure:
    """A listing. setup brings untouched pages to where it starts; it is not counted. pool_setup: the pool's pages."""

    name: str
    steps: Steps
    setup: Steps = ()
    pool_setup: Steps = ()
    title: str = ""
    world: str = field(default="guest")  # who runs at the start


@dataclass(frozen=True)
class Options:
    """What applies to any design. sync_notify: the host is told of each share at once. batch: a request's pages convert
    in one call. in_place: the host does its I/O straight from the mapping. lazy: requests whose pages one deferred
    unshare covers; 0 unshares at once. retries: how often the guest asks again when an unshare is refused.
    """

    sync_notify: bool = False
    batch: bool = True
    in_place: bool = False
    lazy: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Design:
    """How a guest's I/O goes: the procedure of one request.

    build: from options, policy and direction (True: the guest writes) to a `Procedure`. A design of one's own is an
    argument like those of `DESIGNS`; where a check uses many processes, `build` has to be a function of a module.
    """

    name: str
    build: Callable[[Options, Policy, bool], Procedure]

    def __call__(self, options: Options, policy: Policy, write: bool) -> Procedure:
        return self.build(options, policy, write)

    def __str__(self) -> str:
        return self.name

    def converts(self, policy: Policy) -> bool:
        """Whether a request takes pages back from the host."""
        request = self.build(Options(), policy, True)
        return any(isinstance(line, Do) and line.op is Op.UNSHARE_BEGIN for line in walk(request.steps))


def held(policy: Policy, name: str, *steps: Line) -> Steps:
    """The steps under a lock, where the policy speaks of it."""
    locks, unlocks = locked(policy, name)
    return (*locks, *steps, *unlocks)


def locked(policy: Policy, *names: str) -> tuple[Steps, Steps]:
    """Locks that are taken in this order, and given back in the other; none where the policy does not speak of them."""
    known = [name for name in names if policy.has(LOCKS[name].mechanism)]
    return tuple(map(Lock, known)), tuple(map(Unlock, reversed(known)))


def walk(steps: Steps) -> Iterator[Line]:
    """Every line, and those of its branches, in the order of the listing."""
    for line in steps:
        yield line
        match line:
            case Each(inner):
                yield from walk(inner)
            case Take(_, then, otherwise):
                yield from walk(then)
                yield from walk(otherwise)
            case Do(otherwise=tuple(branch)):
                yield from walk(branch)
