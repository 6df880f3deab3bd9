"""`pagewarden probe --json`: the matrix, the room of an isolated host side, the kernels that can be had."""

from typing import Literal

from msgspec import Struct

from pagewarden.report.documents.base import Document

Ended = Literal["refused", "allowed", "LEAK", "TORN", "HANG", "UNTRIED", "TIMEOUT"]


class Feature(Struct, frozen=True):
    """Something that a kernel has or lacks; what was found, or why not."""

    name: str
    available: bool
    reason: str


class MatrixTrial(Struct, kw_only=True, frozen=True):
    """A way of the host to touch a page (`path`), in one direction, of a page in one state.

    `errno` is the errno's or the signal's name of what was `refused`. `LEAK`: the guest's secret was seen; `TORN`: its
    bytes changed or were lost; `HANG`: the process never left the kernel, and no signal ended it. What could not be
    tried is `UNTRIED`, what had no answer in time `TIMEOUT`, both with a `reason`; `agrees` is null then, for nothing
    was compared. `law` and `law_errno` are what the page law says for the policy of that backing, computed from the
    path's operations; `law` is null where it says nothing.

    Of a protected VM the states are host (the guest has not touched the page), private, shared, unshared and poison
    (taken back by the host), `since` is the state in which the path took hold, where that is another; `guest` is what
    the guest's load finds afterwards, bytes in a word or an errno, and `then` what the host's own does.
    """

    backing: str
    isolated: bool
    path: str
    state: Literal["private", "shared", "again-private", "host", "unshared", "poison"]
    direction: Literal["read", "write"]
    result: Ended
    errno: str | None
    law: Ended | None
    law_errno: str | None
    agrees: bool | None
    reason: str | None
    since: str | None = None
    guest: str | None = None
    then: str | None = None


class TrialChange(Struct, frozen=True, kw_only=True):
    """A trial that ended in another way than in the baseline: result and errno of then and of now."""

    backing: str
    isolated: bool
    path: str
    state: str
    direction: str
    since: str | None
    before: Ended
    before_errno: str | None
    now: Ended
    now_errno: str | None


class EarlierTrial(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a trial in the baseline; what is null is left out."""

    backing: str
    isolated: bool
    path: str
    state: str
    direction: str
    result: Ended
    errno: str | None = None
    since: str | None = None


class Baseline(Struct, frozen=True, kw_only=True):
    """Beside an earlier document (`--baseline`): `fixed`, harm that is no more; `worse`, harm that was not, or a shared
    page that is refused now; `other` differences; `silent`, what was answered before and is not now; how many trials
    only one of the two has; `matrix`, all of the earlier one. `good` decides the status."""

    kernel: str
    good: bool
    fixed: list[TrialChange]
    worse: list[TrialChange]
    other: list[TrialChange]
    silent: list[TrialChange]
    added: int
    gone: int
    matrix: list[EarlierTrial]


class Probed(Document, kw_only=True, frozen=True):
    """`pagewarden probe`: what a kernel offers, and what it lets the host do.

    `kernel` is the version that ran, `here` or in `qemu` (`--kernel`: tried inside, judged outside). The status is 1
    when anything disagrees with the law or had no answer in time; with a baseline, when anything got worse.
    """

    verb: Literal["probe"] = "probe"
    kernel: str
    where: Literal["here", "qemu"]
    capabilities: list[Feature]
    matrix: list[MatrixTrial]
    leaks: int
    disagreements: int
    untried: int
    timeouts: int
    baseline: Baseline | None = None


class RoomPart(Struct, frozen=True):
    """A part of the room, what it is against, and whether it is there: why not, where it is missing."""

    name: str
    against: str
    state: str


class RoomCall(Struct, frozen=True):
    """A system call that the host side may make, under which condition ("": any), and what for."""

    name: str
    condition: str
    reason: str


class RoomFound(Document, kw_only=True, frozen=True):
    """`pagewarden probe --isolated`: what keeps an untrusted host side apart here. `broken` says why it does not."""

    verb: Literal["probe --isolated"] = "probe --isolated"
    holds: bool
    broken: list[str]
    parts: list[RoomPart]
    calls: list[RoomCall]


class KernelOffer(Struct, frozen=True):
    """A kernel that `--kernel` takes; `there`: it lies in the cache."""

    name: str
    version: str
    there: bool


class Kernels(Document, kw_only=True, frozen=True):
    """`pagewarden probe --kernels`: what can be had; `lack` says why nothing can be booted here, or is null."""

    verb: Literal["probe --kernels"] = "probe --kernels"
    kernels: list[KernelOffer]
    lack: str | None
