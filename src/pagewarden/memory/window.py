"""The host's view of a memory: guarded copies, many places at once, transfers by a ring, and pages that are lent."""

import errno
from typing import TYPE_CHECKING

from pagewarden.kernel.region import Region
from pagewarden.memory.guarded_copies import Elsewhere, GuardedCopies, Keeper
from pagewarden.memory.own_process import closed
from pagewarden.vocab import PrivateAccess, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagewarden.kernel.uring import Uring
    from pagewarden.memory.loan import DirectLoan
    from pagewarden.memory.scatter_gather import ScatterGather


class Window(GuardedCopies):
    """A VectoredView. Offsets and lengths are bytes; methods raise as pagewarden.port.HostView says."""

    def __init__(self, region: Region, keeper: Keeper | None = None) -> None:
        super().__init__(region, keeper := keeper or Keeper())
        self._lend, self._hold_touched = keeper.lend, keeper.hold_touched
        self._vectors: list[ScatterGather] = []
        self._rings: list[Uring] = []

    def gather(self, places: "NDArray[np.int64]", count: int, target: "NDArray[np.uint8]") -> None:
        """Many small places into one array, in one system call: see pagewarden.port.VectoredView."""
        vectored = self._vectors.pop() if self._vectors else self._vectored()
        try:
            if not vectored.gather(places, count, target):
                data = b"".join([self.read(*place) for place in places[:2, :count].T.tolist()])
                target.data[: len(data)] = memoryview(data)[: len(target)]
        finally:
            self._vectors.append(vectored)

    def scatter(self, places: "NDArray[np.int64]", count: int, data: "NDArray[np.uint8]") -> None:
        """One array to many small places: see pagewarden.port.VectoredView."""
        vectored = self._vectors.pop() if self._vectors else self._vectored()
        try:
            if not vectored.scatter(places, count, data):
                for offset, length in places[:2, :count].T.tolist():
                    self._part(offset, length)
                    self.write(offset, data[:length].data)
                    data = data[length:]
        finally:
            self._vectors.append(vectored)

    def transfer(self, fd: int, runs: "NDArray[np.int64]", places: "NDArray[np.int64]") -> int:
        """Several transfers with a file, how many of them moved whole: see pagewarden.port.VectoredView."""
        vectored = self._vectors.pop() if self._vectors else self._vectored()
        try:
            return vectored.transfer(fd, runs, places)
        finally:
            self._vectors.append(vectored)

    def no_queue(self) -> str | None:
        """Why `together` is not to be had here; None: it is."""
        if self._hold_touched is None:
            return "an isolated host side may not make a ring"
        from pagewarden.kernel.uring import Uring, why_none  # compiled code

        try:
            if not self._rings:
                self._rings.append(Uring())
        except (OSError, Unavailable) as error:
            return why_none(error) if isinstance(error, OSError) else str(error)
        return None

    def together(
        self, fd: int, runs: "NDArray[np.int64]", places: "NDArray[np.int64]", moved: "NDArray[np.uint8]"
    ) -> int:
        """Transfers with a file at once, the pages held meanwhile: see pagewarden.port.QueueingView."""
        if self._hold_touched is None or not len(runs):
            return 0
        from pagewarden.kernel.uring import Uring

        touched = places[:, int(runs[:, 2].min()) : int(runs[:, 3].max())]
        touched = touched[:, touched[1] > 0]
        if touched.size and (touched.min() < 0 or (touched[0] > self.size - touched[1]).any()):
            return 0
        with self._hold_touched(touched):
            try:
                ring = self._rings.pop() if self._rings else Uring()
            except OSError:
                return 0
            try:
                return ring.together(fd, self.address, self.size, runs, places, moved)
            finally:
                self._rings.append(ring)

    def add16(self, offset: int, amount: int) -> None:
        """Add to a 2-byte number that the other side watches: see pagewarden.port.VectoredView."""
        if not 0 <= offset < self.size or offset % 4 != 2 or not 0 <= amount < 1 << 16:
            raise ValueError(f"{amount} to offset {offset}: not a 2-byte number, or outside, or not 2 modulo 4")
        vectored = self._vectors.pop() if self._vectors else self._vectored()
        try:
            if left := vectored.add16(offset, amount):
                self._answers([(offset, 2)], 0)
                if vectored.add16(offset, left):
                    raise PrivateAccess(errno.EFAULT, "the host may not write to the page", offset)
        finally:
            self._vectors.append(vectored)

    def lend(self, *places: tuple[int, int]) -> "DirectLoan | None":
        """The places themselves, to load and store (port.LendingView)."""
        for place in places:
            self._part(*place)
        if self._lend is None:
            return None
        from pagewarden.memory.loan import DirectLoan  # compiled code

        loan = DirectLoan(places, self._vectored())
        try:
            if self._lend(loan):
                return loan
        except BaseException:
            loan.close()
            raise
        loan.close()
        return None

    def close(self) -> None:
        """Give the scratch files back; the mapping belongs to the memory, and is not reached from here any more."""
        self._region = Elsewhere(closed)
        while self._scratches:
            self._scratches.pop().close()
        while self._vectors:
            self._vectors.pop().close()
        while self._rings:
            self._rings.pop().close()

    def forked(self) -> None:
        """In a forked child: nothing of it is left."""
        self._region = Elsewhere(self.foreign)
        for scratch in self._scratches:
            scratch.forked()
        for vectored in self._vectors:
            vectored.forked()
        for ring in self._rings:
            ring.forked()
        self._scratches, self._vectors, self._rings = [], [], []

    def _vectored(self) -> "ScatterGather":
        """What does these three, one for each call at work; compiled code, loaded at the first."""
        from pagewarden.memory.scatter_gather import ScatterGather

        self._part(0, 0)  # a forked child has none
        return ScatterGather(self.address, self.size)
