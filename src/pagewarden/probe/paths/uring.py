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


def outward(rings: IoUring, opcode: int, target: Target) -> bytes:
    """From the page to a file, through the rings; what the file has then."""
    rings.submit(opcode, target.fds[0], target)
    return os.pread(target.fds[1], SAMPLE, 0)


def inward(rings: IoUring, opcode: int, target: Target) -> bytes:
    """From a file to the page, through the rings."""
    rings.submit(opcode, target.fds[0], target)
    return b""


@path("io_uring-write", READ, requires=ring, opens=raw.file(), calls=("io_uring_setup",))
def write(target: Target) -> bytes:
    """IORING_OP_WRITE from the window to a file."""
    return outward(IoUring(), abi.IORING_OP_WRITE, target)


@path("io_uring-read", WRITE, requires=ring, opens=raw.file(MARK), calls=("io_uring_setup",))
def read(target: Target) -> bytes:
    """IORING_OP_READ from a file into the window."""
    return inward(IoUring(), abi.IORING_OP_READ, target)


@path("io_uring-write-fixed", READ, requires=ring, opens=raw.file(), calls=("io_uring_setup",))
def write_fixed(target: Target) -> bytes:
    """Register the page as a fixed buffer, then IORING_OP_WRITE_FIXED from it."""
    rings = IoUring()
    rings.register(target)
    return outward(rings, abi.IORING_OP_WRITE_FIXED, target)


@path("io_uring-read-fixed", WRITE, requires=ring, opens=raw.file(MARK), calls=("io_uring_setup",))
def read_fixed(target: Target) -> bytes:
    """Register the page as a fixed buffer, then IORING_OP_READ_FIXED into it."""
    rings = IoUring()
    rings.register(target)
    return inward(rings, abi.IORING_OP_READ_FIXED, target)


@path("io_uring-write-registered-before", READ, requires=ring, opens=raw.file(), calls=("io_uring_setup",))
def write_registered(target: Target) -> Attempt:
    """A buffer registered before the conversion, written out after it."""
    rings = IoUring()
    rings.register(target)
    yield
    return outward(rings, abi.IORING_OP_WRITE_FIXED, target)


@path("io_uring-read-registered-before", WRITE, requires=ring, opens=raw.file(MARK), calls=("io_uring_setup",))
def read_registered(target: Target) -> Attempt:
    """A buffer registered before the conversion, read into after it."""
    rings = IoUring()
    rings.register(target)
    yield
    return inward(rings, abi.IORING_OP_READ_FIXED, target)
