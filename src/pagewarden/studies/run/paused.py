"""A guest that stands still half way, and one that goes on from there."""

import hashlib
from collections.abc import Callable

import msgspec
import numpy as np

from pagewarden.guest.hypercalls import GuestReport
from pagewarden.guest.program import REQUEST, Program
from pagewarden.guest.serve import Hypervisor
from pagewarden.keep import KeptMemory
from pagewarden.keep.snapshot import read_key
from pagewarden.studies.run.canary import SIZE, WORDS, Canary
from pagewarden.studies.run.plan import RunPlan
from pagewarden.vocab import UserMistake

_ASKED = ("write", "sector", "length", "page", "slot")
"""What makes two tables of requests the same: what their reads must find is the disk's affair."""
_R14, _R15 = 14, 15
"""Of port.Cpu.registers: failures so far, where the first one stands in the table."""
_REGISTERS = 18


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


def kept_memory(plan: RunPlan, described: Program) -> tuple[KeptMemory, PausedGuest | None]:
    """Memory under the plan's limit, or from its snapshot, with what goes on in it. Raises as KeptMemory does."""
    backing = "uffd-window" if plan.backing == "auto" else plan.backing
    if plan.restore is None:
        return KeptMemory(
            memory_size(described), backing, limit=plan.limit, swap=plan.swap, isolated=plan.isolated
        ), None
    assert plan.key is not None
    memory, state = KeptMemory.restored(
        plan.restore, read_key(plan.key), backing=backing, limit=plan.limit, swap=plan.swap
    )
    try:
        return memory, decoded(state, memory.size, described, f"{plan.restore}")
    except BaseException:
        memory.close()
        raise


def canary_of(paused: PausedGuest) -> Canary:
    """The secret that is in the guest's memory already."""
    one, other = (np.frombuffer(half, np.uint64) for half in paused.canary)
    return Canary(one, other)


def encoded(paused: PausedGuest) -> bytes:
    """For a file, or a wire."""
    return msgspec.msgpack.encode(paused)


def decoded(state: bytes, size: int, described: Program, what: str) -> PausedGuest:
    """The same back, of a memory of so many bytes; UserMistake, by `what` they are, for another guest's."""
    try:
        paused = msgspec.msgpack.decode(state, type=PausedGuest)
    except msgspec.MsgspecError as error:
        raise UserMistake(f"{what} is no guest of this version of pagewarden ({error})") from error
    if paused.program != digest(described) or size != memory_size(described):
        raise UserMistake(f"{what} is of a guest with other requests, or another design: give what it was given")
    known = 0 < paused.doorbells < described.batches and len(paused.registers) == _REGISTERS
    if not known or min(paused.taken_up, *paused.registers) < 0 or {*map(len, paused.canary)} != {8 * WORDS}:
        raise UserMistake(f"{what} stands nowhere in its own program: it was made by something else")
    return paused


def memory_size(described: Program) -> int:
    """Bytes of a guest's memory: its own, and the secret that the host is searched for."""
    return described.layout.end + SIZE


def stood(
    described: Program, doorbells: int, taken_up: int, registers: tuple[int, ...], canary: Canary
) -> tuple[PausedGuest, GuestReport]:
    """A guest that stands behind so many doorbells; and what it would say of itself so far."""
    state = (canary.one.tobytes(), canary.other.tobytes())
    first = (registers[_R15] - described.layout.table) // REQUEST.itemsize
    return (
        PausedGuest(digest(described), doorbells, taken_up, list(registers), state),
        GuestReport(doorbells * described.batch, registers[_R14], first),
    )


class Pausing:
    """serve.Hypervisor: behind a doorbell that is `due`, `pause`."""

    def __init__(self, behind: Hypervisor, due: Callable[[], bool], pause: Callable[[], None]) -> None:
        self.hypercall = behind.hypercall
        self._behind, self._due, self._pause = behind, due, pause

    def doorbell(self, queue: int) -> None:
        self._behind.doorbell(queue)
        if self._due():
            self._pause()
