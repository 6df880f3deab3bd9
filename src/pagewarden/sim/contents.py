"""The bytes of a machine's pages, carried along with their states, so that claims can be checked on data.

What happens to the bytes is read off the law's step: reached or not, zeroed or not, on a new frame or not. Frames that
nobody has any more are filled with junk. For tests and small guests: page by page, in Python.
"""

import errno
from random import Random

from pagewarden.law import Data, Home, Op, Outcome, Page, Step
from pagewarden.sim.machine import Machine
from pagewarden.vocab import PageRange, PrivateAccess


class Contents:
    """A machine with bytes. seed: of the junk in frames that are free."""

    def __init__(self, machine: Machine, seed: int = 0) -> None:
        self.machine = machine
        self._random = Random(seed)
        self.frames: dict[int, bytearray] = {}  # by page; none for a hole
        self.left: dict[int, bytearray] = {}  # the frame that a page has left, while somebody pins it
        self.freed: list[bytearray] = []  # frames that went back to the host
        self._copies: dict[int, bytes] = {}  # of a migration
        self.swap: dict[int, list[bytes]] = {}  # every copy that the host has seen, the last one current

    def apply(self, op: Op, pages: PageRange) -> tuple[Outcome, int]:
        """An operation on a range, as Machine.apply; the bytes follow."""
        before = [self.machine.page(page) for page in range(pages.start, pages.stop)]
        steps = [self.machine.table.step(self.machine.table.index[page], op) for page in before]
        outcome, stopped = self.machine.apply(op, pages)
        if outcome is Outcome.DONE:
            for number, page, step in zip(range(pages.start, pages.stop), before, steps, strict=True):
                self._follow(number, page, op, step)
        return outcome, stopped

    def read(self, op: Op, offset: int, length: int) -> bytes:
        """Bytes as the operation sees them; PrivateAccess at the first page that does not answer.

        A read that is done without reaching the page sees what the host had there before: the frame that the page has
        left, or zeroes; of a sealed swap copy, junk.
        """
        return b"".join(self._read(op, *piece) for piece in self._pieces(offset, length))

    def write(self, op: Op, offset: int, data: bytes) -> None:
        """Write as the operation would; PrivateAccess at the first page that does not answer."""
        for page, start, length in self._pieces(offset, len(data)):
            reached = self._access(op, page)
            target = self.frames[page] if reached else self.left.get(page, bytearray(self.machine.page_size))
            target[start : start + length], data = data[:length], data[length:]

    def peek(self, page: int) -> bytes:
        """The page's bytes, whoever may see them: for the one who checks."""
        return bytes(self.frames.get(page, bytearray(self.machine.page_size)))

    def _pieces(self, offset: int, length: int) -> list[tuple[int, int, int]]:
        size = self.machine.page_size
        pages = PageRange.covering(offset, length, size)
        pieces = []
        for page in range(pages.start, pages.stop):
            low, high = max(offset, page * size), min(offset + length, (page + 1) * size)
            pieces.append((page, low - page * size, high - low))
        return pieces

    def _access(self, op: Op, page: int) -> bool:
        step = self.machine.table.step(self.machine.table.index[self.machine.page(page)], op)
        outcome, _ = self.apply(op, PageRange(page, page + 1))
        if outcome is not Outcome.DONE:
            why = f"{op.key} under {self.machine.policy.name} ends in {outcome.name}"
            raise PrivateAccess(outcome.errno or errno.EFAULT, why, page * self.machine.page_size)
        return step.reached

    def _read(self, op: Op, page: int, start: int, length: int) -> bytes:
        reached = self._access(op, page)
        if op is Op.SWAP_READ:
            frame = bytearray(self.swap[page][-1]) if reached else self._junk()
        else:
            frame = self.frames[page] if reached else self.left.get(page, bytearray(self.machine.page_size))
        return bytes(frame[start : start + length])

    def _junk(self) -> bytearray:
        return bytearray(self._random.randbytes(self.machine.page_size))

    def _free(self, number: int, pinned: bool) -> None:
        """A page leaves its frame: it lives on for whoever pins it, else somebody else fills it."""
        frame = self.frames.pop(number)
        if pinned:
            self.left[number] = frame
        else:
            frame[:] = self._junk()
            self.freed.append(frame)

    def _follow(self, number: int, page: Page, op: Op, step: Step) -> None:
        after = step.page
        if op is Op.SWAP_OUT:
            self.swap.setdefault(number, []).append(self.peek(number))
        if op is Op.MIGRATE_COPY:
            self._copies[number] = self.peek(number)
        moved = op is Op.MIGRATE_COMMIT or (op is Op.UNSHARE_COMMIT and step.events != ())
        if number in self.frames and (moved or after.home in (Home.HOLE, Home.SWAPPED)):
            kept = self._copies.pop(number, None) or self.peek(number)
            self._free(number, pinned=page.pins > 0)
            if moved:
                self.frames[number] = bytearray(kept)
        if op in (Op.SWAP_IN, Op.SWAP_IN_TAMPERED, Op.SWAP_IN_STALE):
            copies = self.swap[number]
            self.frames[number] = bytearray(copies[0 if op is Op.SWAP_IN_STALE else -1])
            if op is Op.SWAP_IN_TAMPERED:
                self.frames[number][0] ^= 0xFF
        if after.home is Home.RESIDENT:
            self.frames.setdefault(number, bytearray(self.machine.page_size))
        if after.data is Data.ZERO and page.data is not Data.ZERO and number in self.frames:
            self.frames[number][:] = bytes(self.machine.page_size)
        if not after.old_pin:
            self.left.pop(number, None)
