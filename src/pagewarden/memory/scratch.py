"""Small files that guarded copies pass through. One that nobody refers to any more closes itself."""

from pagewarden.abi import memory as uapi
from pagewarden.kernel.door import memfd
from pagewarden.kernel.region import Region

CHUNK = 256 << 10
"""Bytes of a guarded copy's scratch file: it should stay in the second-level cache."""
IOV_MAX = 1024
"""Segments of one preadv (include/uapi/linux/uio.h, UIO_MAXIOV)."""


class Scratch:
    """A small file that guarded copies pass through."""

    def __init__(self) -> None:
        self._own = memfd("pagewarden-scratch", CHUNK)
        self.file = self._own.fd
        self.region = Region(CHUNK)
        self.region.place(self.file)
        self.region.advise_all(uapi.MADV_DONTFORK, uapi.MADV_DONTDUMP)

    def lift(self, lowest: int) -> None:
        """Give the file a number of at least `lowest`."""
        self._own = self._own.lift(lowest)
        self.file = self._own.fd

    def forked(self) -> None:
        """In a forked child: the parent goes on using the file."""
        self._own.close()

    def close(self) -> None:
        self.region.close()
        self._own.close()


class Borrowed:
    """A scratch file out of the pool, one for each accessor at work."""

    def __init__(self, pool: list[Scratch]) -> None:
        self._pool = pool

    def __enter__(self) -> Scratch:
        try:
            self._scratch = self._pool.pop()
        except IndexError:
            self._scratch = Scratch()
        return self._scratch

    def __exit__(self, *failure: object) -> None:
        self._pool.append(self._scratch)
