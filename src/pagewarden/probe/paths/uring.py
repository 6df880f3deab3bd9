"""io_uring on the window: plain requests (uaccess), and buffers registered with the ring (a pin that lasts)."""

import ctypes
import os

from pagewarden.abi import io_uring as abi
from pagewarden.kernel.door import map_anywhere, syscall, unmap
from pagewarden.probe import raw
from pagewarden.probe.registry import MARK, SAMPLE, Attempt, Direction, Target, path
from pagewarden.vocab import Unavailable

READ, WRITE = Direction.READ, Direction.WRITE


class IoUring:
    """A ring of one entry; `close` gives up the pins that its registered buffers hold."""

    def __init__(self) -> None:
        self.params = abi.io_uring_params()
        self.fd = syscall("io_uring_setup", 1, ctypes.addressof(self.params))
        sq, cq = self.params.sq_off, self.params.cq_off
        self._maps: list[tuple[int, int]] = []
        self._sq = self._map(sq.array + self.params.sq_entries * 4, abi.IORING_OFF_SQ_RING)
        cqes = self.params.cq_entries * ctypes.sizeof(abi.io_uring_cqe)
        self._cq = self._map(cq.cqes + cqes, abi.IORING_OFF_CQ_RING)
        self._sqes = self._map(ctypes.sizeof(abi.io_uring_sqe), abi.IORING_OFF_SQES)

    def _map(self, size: int, offset: int) -> int:
        address = map_anywhere(size, self.fd, offset)
        self._maps.append((address, size))
        return address

    def register(self, target: Target) -> None:
        """Pin the window's page as fixed buffer 0."""
        piece = raw.vector((target.address, target.length))
        syscall("io_uring_register", self.fd, abi.IORING_REGISTER_BUFFERS, ctypes.addressof(piece), 1)

    def submit(self, opcode: int, fd: int, target: Target) -> None:
        """One request on the first SAMPLE bytes of the page, waited for; OSError when it was refused."""
        sqe = abi.io_uring_sqe(opcode=opcode, fd=fd, addr=target.address, len=SAMPLE)
        ctypes.memmove(self._sqes, ctypes.addressof(sqe), ctypes.sizeof(sqe))
        tail = ctypes.c_uint32.from_address(self._sq + self.params.sq_off.tail)
        ctypes.c_uint32.from_address(self._sq + self.params.sq_off.array).value = 0
        tail.value += 1
        syscall("io_uring_enter", self.fd, 1, 1, abi.IORING_ENTER_GETEVENTS, 0, 0)
        head = ctypes.c_uint32.from_address(self._cq + self.params.cq_off.head)
        cqe = abi.io_uring_cqe.from_address(self._cq + self.params.cq_off.cqes)
        head.value += 1
        if cqe.res < 0:
            raise OSError(-cqe.res, os.strerror(-cqe.res))

    def close(self) -> None:
        while self._maps:
            unmap(*self._maps.pop())
        os.close(self.fd)


def ring() -> None:
    """Unavailable where no ring can be made."""
    try:
        IoUring().close()
    except OSError as error:
        raise Unavailable(f"no io_uring ({error})", "needs CONFIG_IO_URING=y and kernel.io_uring_disabled=0") from error


def _register(direction: Direction, word: str, plain: int, fixed: int, to_file: bool) -> None:
    """Three ways in one direction: a plain request, one with a registered buffer, and one registered before."""
    opens, calls = raw.file(b"" if to_file else MARK), ("io_uring_setup",)
    ways = "from the window to a file" if to_file else "from a file into the window"

    def submitted(rings: IoUring, opcode: int, target: Target) -> bytes:
        rings.submit(opcode, target.fds[0], target)
        return os.pread(target.fds[1], SAMPLE, 0) if to_file else b""

    def registered(target: Target) -> IoUring:
        rings = IoUring()
        rings.register(target)
        return rings

    about = f"IORING_OP_{word.upper()} {ways}."

    @path(f"io_uring-{word}", direction, requires=ring, opens=opens, calls=calls, about=about)
    def now(target: Target) -> bytes:
        return submitted(IoUring(), plain, target)

    about = (
        f"Register the page as a fixed buffer, then IORING_OP_{word.upper()}_FIXED {'from' if to_file else 'into'} it."
    )

    @path(f"io_uring-{word}-fixed", direction, requires=ring, opens=opens, calls=calls, about=about)
    def by_buffer(target: Target) -> bytes:
        return submitted(registered(target), fixed, target)

    about = f"A buffer registered before the conversion, {'written out' if to_file else 'read into'} after it."

    @path(f"io_uring-{word}-registered-before", direction, requires=ring, opens=opens, calls=calls, about=about)
    def later(target: Target) -> Attempt:
        rings = registered(target)
        yield
        return submitted(rings, fixed, target)


_register(READ, "write", abi.IORING_OP_WRITE, abi.IORING_OP_WRITE_FIXED, True)
_register(WRITE, "read", abi.IORING_OP_READ, abi.IORING_OP_READ_FIXED, False)
