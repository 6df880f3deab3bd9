"""The side that a VM leaves: its pages go while it runs, then it stops, and the rest goes."""

import errno
import math
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pagewarden.keep.kept import KeptMemory
from pagewarden.keep.moving import messages as say
from pagewarden.keep.moving.channel import MOST, Channel
from pagewarden.keep.moving.tickets import TICKET
from pagewarden.keep.moving.writes import FollowedWrites
from pagewarden.keep.residence import HOLE
from pagewarden.keep.seal import BATCH, wipe
from pagewarden.kernel.region import Region
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, UserMistake
from pagewarden.memory.leaving import data_runs, frozen, relinquish
from pagewarden.vocab.progress import Advance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

AIM = 0.03
"""Seconds that the pages which are left should take for the guest to be stopped."""
GAIN, IN_VAIN = 0.9, 5
"""A copy that leaves more than this part of the least so far was in vain; after so many the guest is stopped."""
_CHUNK = MOST // 2


class InDoubt(Refused):
    """The connection ended when everything had been sent: the destination has the VM, or it has not. The source keeps
    the memory and must not run the guest until `Departure.settle` has asked."""


class Departure:
    """One VM's way out. The guest runs on until `stop` is called, in the thread that calls `send`."""

    def __init__(
        self, memory: PrivateMemory, key: bytes, *, tell: Advance = lambda done, total: None, patience: float = 10.0,
        longest: float = math.inf,
    ) -> None:  # fmt: skip
        """tell: pages that went, of those there were, each time a copy begins anew. patience: seconds that the other
        side may be silent. longest: seconds that the guest may stand still, as far as that can be said before.
        UserMistake for an isolated memory, whose host side is a process of its own."""
        if memory.isolated:
            raise UserMistake("an isolated memory's host side cannot move with it: migrate one that is not isolated")
        self._memory, self._key, self._tell, self._patience, self._longest = memory, key, tell, patience, longest
        self._ticket, self._name = secrets.token_bytes(TICKET), b""
        self._changed: Mask = np.zeros(memory.size // PAGE_SIZE, np.bool_)
        self.in_doubt = self.gone = False
        """Everything was sent and no answer has come; the destination has it, and here is nothing any more."""
        self.rounds = self.pages = 0
        """Copies that were made, the last included, and pages that went in all."""
        self.downtime = 0.0
        """Seconds from `stop` to the destination's word that it has it."""
        self.not_followed = ""
        """Why the guest was stopped for the whole copy, where it was."""

    def send(self, connection: socket.socket, stop: Callable[[], bytes], go_on: Callable[[], None]) -> None:
        """Move it. stop: ends the guest and what works for it (no I/O, no hypercall half done) and gives the state of
        CPUs and devices; go_on: it runs here again. Afterwards the memory refuses all (ESTALE) and holds only zeroes.

        Refused: it stays here, as it was, and runs: EBUSY by the page that is held, ETIME where it would stand still
        for longer than it may, ECONNREFUSED with the destination's reason, ECONNRESET, EBADMSG, EPROTO as of Channel.
        InDoubt: see there. What `stop` raises.
        """
        channel = Channel(connection, self._key, calls=True, patience=self._patience)
        channel.send(say.OFFER, 0, self._ticket, self._memory.size.to_bytes(8, "little"))
        self._name = bytes(_answer(channel, say.ACCEPT)[:TICKET])
        with FollowedWrites(self._memory) as writes:
            self.not_followed = writes.why
            self._memory.subscribe(self)
            try:
                self._while_it_runs(channel, writes)
                self._rest(channel, writes, stop, go_on)
            finally:
                channel.wipe()
                self._memory.unsubscribe(self)
        self._scrub()

    def settle(self, connection: socket.socket) -> bool:
        """Ask, by a new connection to the same destination (or to another process that has its tickets). True: it has
        the VM, and here is nothing any more. False: it has not and never will, and the guest may run here. Refused: it
        is not known yet."""
        channel = Channel(connection, self._key, calls=True, patience=self._patience)
        channel.send(say.ASK, 0, self._ticket, self._name)
        kind, _, said = channel.receive()
        if kind == say.NO and bytes(said) == self._ticket:
            self.in_doubt = False
            return False
        if kind != say.TAKEN or bytes(said) != self._ticket:
            raise Refused(errno.EPROTO, "the other side does not know the ticket's destination: ask the right one")
        self._scrub()
        return True

    # -- a listener of the memory --------------------------------------------------------------------------------------

    def invalidate_begin(self, pages: PageRange) -> None:
        """What changes hands goes again, for the host may have written there."""
        self._changed[pages.start : pages.stop] = True

    invalidate_end = invalidate_begin

    # -- the steps -----------------------------------------------------------------------------------------------------

    def _while_it_runs(self, channel: Channel, writes: "FollowedWrites") -> None:
        """Copies until what is left goes fast enough; shared pages, which the host writes too, wait for the end."""
        left: Mask = np.ones(len(self._changed), np.bool_)
        speed, least, in_vain = 0.0, math.inf, 0
        while writes.followed and in_vain < IN_VAIN:
            start, before = time.perf_counter(), self.pages
            shared = np.frombuffer(bytes(self._memory._state.shared), np.bool_)
            self._copy(channel, left & ~shared, first=not self.rounds)
            channel.send(say.ROUND)
            _answer(channel, say.ROUND)  # so the other side has no more to do than this one
            speed = max(speed, (self.pages - before) / (time.perf_counter() - start))
            self.rounds += 1
            left = writes.taken(self._changed)
            count = int(left.sum())
            if count <= max(speed * AIM, BATCH):
                break
            in_vain += count > GAIN * least
            least = min(least, count)
            if in_vain == IN_VAIN and count > speed * self._longest:
                raise Refused(
                    errno.ETIME,
                    f"the guest writes as fast as pages go, {speed * PAGE_SIZE / 2**20:,.0f} MiB/s: it would stand "
                    f"still for some {count / speed:.1f} s, and may for {self._longest:g} s",
                )
        self._changed |= left

    def _rest(
        self, channel: Channel, writes: "FollowedWrites", stop: Callable[[], bytes], go_on: Callable[[], None]
    ) -> None:
        start = time.perf_counter()
        state = stop()
        try:
            if len(state) > say.MOST_STATE:
                raise UserMistake(f"the state beside the pages has {len(state)} bytes, more than {say.MOST_STATE}")
            with frozen(self._memory) as ledger:
                shared = np.frombuffer(ledger, np.bool_)
                self._copy(channel, writes.taken(self._changed) | shared, first=not self.rounds)
                self.rounds += 1
                rest = np.packbits(shared).tobytes() + state
                for at in range(0, len(rest), _CHUNK):
                    channel.send(say.REST, 0, rest[at : at + _CHUNK])
                self.in_doubt = True
                self._last(channel)
        except BaseException:
            if not self.in_doubt:
                go_on()
            raise
        self.downtime = time.perf_counter() - start

    def _last(self, channel: Channel) -> None:
        try:
            channel.send(say.LAST, 0, self._ticket)
            kind, _, said = channel.receive()
        except Refused as cut:
            raise InDoubt(cut.errno, f"{cut.why}; whether the VM arrived must be asked for") from cut
        if kind == say.NO:  # it said so after it had written it down
            self.in_doubt = False
            raise Refused(errno.ECONNREFUSED, f"the destination did not take the VM: {_text(said)}")
        if kind != say.TAKEN or bytes(said) != self._ticket:
            raise InDoubt(errno.EPROTO, "the destination's last word makes no sense; ask for it again")

    def _copy(self, channel: Channel, wanted: "Mask", first: bool) -> None:
        """What of the pages has bytes, and, of a page that went before, that it has none any more."""
        there = _present(self._memory) & wanted
        total = int(there.sum())
        for k, part in enumerate(_parts(np.flatnonzero(there))):
            data = _bytes_of(self._memory, part)
            channel.send(say.PAGES, len(part), part, data)
            wipe(data.data)
            self.pages += len(part)
            self._tell(min((k + 1) * BATCH, total), total)
        for part in _parts(np.flatnonzero(wanted & ~there) if not first else np.zeros(0, np.int64)):
            channel.send(say.ZEROES, len(part), part)

    def _scrub(self) -> None:
        if isinstance(self._memory, KeptMemory):
            self._memory._residence.scrub()
        relinquish(self._memory, "this VM has moved to another process, and nothing of it is here")
        self.in_doubt, self.gone = False, True


def _present(memory: PrivateMemory) -> "Mask":
    """Pages that may hold something else than zeroes."""
    if isinstance(memory, KeptMemory):
        there: Mask = memory._residence.state != HOLE
        return there
    present: Mask = np.zeros(memory.size // PAGE_SIZE, np.bool_)
    for start, end in data_runs(memory):
        present[start // PAGE_SIZE : -(-end // PAGE_SIZE)] = True
    return present


def _bytes_of(memory: PrivateMemory, pages: "NDArray[np.int64]") -> "NDArray[np.uint8]":
    """Of ascending pages that are present, at most BATCH."""
    if isinstance(memory, KeptMemory):
        copied = np.empty(len(pages) * PAGE_SIZE, np.uint8)
        with memory._residence.lock:
            memory._residence.copy(pages, copied.data)
        return copied
    region: Region = memory._backing.guest
    return np.frombuffer(region.memory, np.uint8).reshape(-1, PAGE_SIZE)[pages].reshape(-1)


def _parts(pages: "NDArray[np.int64]") -> "list[NDArray[np.int64]]":
    return [pages[k : k + BATCH] for k in range(0, len(pages), BATCH)]


def _answer(channel: Channel, wanted: int) -> memoryview:
    kind, _, said = channel.receive()
    if kind == say.NO:
        raise Refused(errno.ECONNREFUSED, f"the destination does not take the VM: {_text(said)}")
    if kind != wanted:
        raise Refused(errno.EPROTO, f"the destination answers with {kind} where {wanted} is due")
    return said


def _text(said: memoryview) -> str:
    """Of the other side, for a terminal: no control characters."""
    return "".join(c if c.isprintable() else "?" for c in bytes(said[:500]).decode(errors="replace"))
