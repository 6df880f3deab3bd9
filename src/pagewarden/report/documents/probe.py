"""`pagewarden probe --json`: the matrix, the room of an isolated host side, the kernels that can be had."""

from typing import Literal

from msgspec import Struct

from pagewarden.report.documents.base import Document

Ended = Literal["refused", "allowed", "LEAK", "TORN", "UNTRIED", "TIMEOUT"]


class Feature(Struct, frozen=True):
    """Something that a kernel has or lacks; what was found, or why not."""

    name: str
    available: bool
    reason: str


class MatrixTrial(Struct, kw_only=True, frozen=True):
    """A way of the host to touch a page (`path`), in one direction, of a page in one state.

    `errno` is the errno's or the signal's name of what was `refused`. `LEAK`: the guest's secret was seen; `TORN`: its
    bytes changed or were lost. What could not be tried is `UNTRIED`, what had no answer in time `TIMEOUT`, both with a
    `reason`; `agrees` is null then, for nothing was compared. `law` is what the page law says for the policy of that
    backing, computed from the path's operations.
    """

    backing: str
    isolated: bool
    path: str
    state: Literal["private", "shared", "again-private"]
    direction: Literal["read", "write"]
    result: Ended
    errno: str | None
    law: Ended
    agrees: bool | None
    reason: str | None


class Probed(Document, kw_only=True, frozen=True):
    """`pagewarden probe`: what a kernel offers, and what it lets the host do.

    `kernel` is the version that ran, `here` or in `qemu` (`--kernel`: tried inside, judged outside). The status is 1
    when anything disagrees with the law or had no answer in time.
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
