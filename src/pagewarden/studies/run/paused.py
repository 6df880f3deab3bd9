"""A guest that is sealed half way into a file, and one that goes on from there."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from pagewarden.guest.hypercalls import GuestReport
from pagewarden.guest.program import REQUEST, Program
from pagewarden.guest.serve import Hypervisor
from pagewarden.keep import KeptMemory
from pagewarden.keep.snapshot import read_key
from pagewarden.studies.run.canary import Canary
from pagewarden.studies.run.plan import RunPlan
from pagewarden.vocab import UserMistake

_ASKED = ("write", "sector", "length", "page", "slot")
"""What makes two tables of requests the same: what their reads must find is the disk's affair."""
_R14, _R15 = 14, 15
"""Of port.Cpu.registers: failures so far, where the first one stands in the table."""


class PausedGuest(msgspec.Struct):
    """What there is of a guest beside its memory, behind a doorbell; its device has no more than the rings."""

    program: bytes
    doorbells: int
    taken_up: int
    registers: list[int]
    canary: tuple[bytes, bytes]


def digest(described: Program) -> bytes:
    """Of all that a guest program is asked for: a snapshot goes on with the same program alone."""
    parts = [np.ascontiguousarray(described.requests[name]).tobytes() for name in _ASKED]
    return hashlib.sha256(
        b"".join(parts) + repr((described.steps, described.batch, described.layout)).encode()
    ).digest()


def half(described: Program) -> int:
    """The doorbell behind which a guest is sealed; UserMistake where nothing would be left."""
    if described.batches < 2:
        raise UserMistake(
            f"all {len(described.requests)} requests go with one doorbell, so there is no half way: ask for more "
            "(--requests), or for a workload with fewer in flight"
        )
    return described.batches // 2


def kept_memory(plan: RunPlan, size: int, described: Program) -> tuple[KeptMemory, PausedGuest | None]:
    """Memory under the plan's limit, or from its snapshot, with what goes on in it. Raises as KeptMemory does."""
    backing = "uffd-window" if plan.backing == "auto" else plan.backing
    if plan.restore is None:
        return KeptMemory(size, backing, limit=plan.limit, swap=plan.swap), None
    assert plan.key is not None
    memory, state = KeptMemory.restored(
        plan.restore, read_key(plan.key), backing=backing, limit=plan.limit, swap=plan.swap
    )
    try:
        paused = msgspec.msgpack.decode(state, type=PausedGuest)
        if paused.program != digest(described) or memory.size != size:
            raise UserMistake(
                f"{plan.restore} is of a guest with other requests, or another design: give what --snapshot was given"
            )
    except msgspec.MsgspecError as error:
        memory.close()
        raise UserMistake(f"{plan.restore} is no snapshot of `pagewarden run` ({error})") from error
    except BaseException:
        memory.close()
        raise
    return memory, paused


def canary_of(paused: PausedGuest) -> Canary:
    """The secret that is in the guest's memory already."""
    one, other = (np.frombuffer(half, np.uint64) for half in paused.canary)
    return Canary(one, other)


def sealed_into(
    path: Path, key: Path, memory: KeptMemory, described: Program, canary: Canary, registers: tuple[int, ...],
    taken_up: int,
) -> GuestReport:  # fmt: skip
    """Seal a guest that stands behind its `half` doorbell; what it would say of itself so far."""
    done = half(described)
    state = PausedGuest(
        digest(described), done, taken_up, list(registers), (canary.one.tobytes(), canary.other.tobytes())
    )
    memory.snapshot(path, read_key(key, make=True), msgspec.msgpack.encode(state))
    first = (registers[_R15] - described.layout.table) // REQUEST.itemsize
    return GuestReport(done * described.batch, registers[_R14], first)


class Pausing:
    """serve.Hypervisor: behind so many doorbells, `pause`."""

    def __init__(self, behind: Hypervisor, doorbells: int, pause: Callable[[], None]) -> None:
        self.hypercall = behind.hypercall
        self._behind, self._left, self._pause = behind, doorbells, pause

    def doorbell(self, queue: int) -> None:
        self._behind.doorbell(queue)
        self._left -= 1
        if not self._left:
            self._pause()
