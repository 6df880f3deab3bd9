"""The window as the buffer of ordinary I/O: loads and stores by the CPU, and the kernel's checked copies (uaccess)."""

import ctypes
import os

from pagewarden.kernel.door import copy, syscall
from pagewarden.probe import raw
from pagewarden.probe.registry import MARK, SAMPLE, Attempt, Direction, Opens, Target, path

READ, WRITE = Direction.READ, Direction.WRITE
FUTEX_WAIT, FUTEX_WAKE_OP = 0, 5  # include/uapi/linux/futex.h


@path("load", READ)
def load(target: Target) -> bytes:
    """A load by the CPU."""
    seen = ctypes.create_string_buffer(SAMPLE)
    copy(ctypes.addressof(seen), target.address, SAMPLE)
    return seen.raw


@path("store", WRITE)
def store(target: Target) -> bytes:
    """A store by the CPU."""
    mark = ctypes.create_string_buffer(MARK, len(MARK))
    copy(target.address, ctypes.addressof(mark), len(MARK))
    return b""


CHANNELS: dict[str, Opens] = {
    "file": raw.file(),
    "pipe": lambda opened: opened.enter_context(raw.pipe()),
    "socket": raw.pair,
}
"""Each opens (end to read, end to write)."""


def _register(kind: str) -> None:
    @path(f"write-{kind}", READ, about=f"write(2) from the window to a {kind}", opens=CHANNELS[kind])
    def outward(target: Target) -> bytes:
        receive, transmit = target.fds
        syscall("write", transmit, target.address, SAMPLE)
        return os.read(receive, SAMPLE)

    @path(f"read-{kind}", WRITE, about=f"read(2) from a {kind} into the window", opens=CHANNELS[kind])
    def inward(target: Target) -> bytes:
        receive, transmit = target.fds
        os.write(transmit, MARK)
        syscall("read", receive, target.address, len(MARK))
        return b""


for _kind in CHANNELS:
    _register(_kind)


@path("writev", READ)
def writev(target: Target) -> bytes:
    """writev(2) from the window, in two pieces."""
    with raw.pipe() as (receive, transmit):
        raw.vectored("writev", transmit, (target.address, 32), (target.address + 32, 32))
        return os.read(receive, SAMPLE)


@path("readv", WRITE)
def readv(target: Target) -> bytes:
    """readv(2) into the window, in two pieces."""
    with raw.pipe() as (receive, transmit):
        os.write(transmit, MARK)
        raw.vectored("readv", receive, (target.address, 32), (target.address + 32, 32))
        return b""


@path("pwritev", READ, opens=raw.file())
def pwritev(target: Target) -> bytes:
    """pwritev(2) from the window to a file."""
    raw.vectored("pwritev", target.fds[0], (target.address, SAMPLE), offset=0)
    return os.pread(target.fds[1], SAMPLE, 0)


@path("preadv", WRITE, opens=raw.file(MARK))
def preadv(target: Target) -> bytes:
    """preadv(2) from a file into the window."""
    raw.vectored("preadv", target.fds[0], (target.address, len(MARK)), offset=0)
    return b""


@path("futex-wait", READ)
def futex_wait(target: Target) -> Attempt:
    """FUTEX_WAIT compares the word at the page with a guess, here the right one: the wait tells whether it was."""
    guess = yield
    moment = (ctypes.c_int64 * 2)(0, 1000)
    word = int.from_bytes(guess, "little")
    try:
        syscall("futex", target.address, FUTEX_WAIT, word, ctypes.addressof(moment), 0, 0)
    except TimeoutError:
        return guess
    except BlockingIOError:
        return b""  # the word was read and is another one
    return b""


FUTEX_SETS = 0xA5
"""What the word is then: an operand has 12 bits."""


@path("futex-wake-op", WRITE)
def futex_wake_op(target: Target) -> bytes:
    """FUTEX_WAKE_OP sets the word at the page."""
    own, operation = ctypes.c_uint32(), FUTEX_SETS << 12  # FUTEX_OP_SET, compare with 0
    syscall("futex", ctypes.addressof(own), FUTEX_WAKE_OP, 0, 0, target.address, operation)
    return b""
