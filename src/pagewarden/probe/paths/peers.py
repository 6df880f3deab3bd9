"""One process reaching into another's memory, or into its own by the same doors."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

from pagewarden.abi import ptrace
from pagewarden.kernel.door import syscall
from pagewarden.probe import raw
from pagewarden.probe.outsider import Access, ask
from pagewarden.probe.registry import MARK, SAMPLE, Direction, Target, path
from pagewarden.vocab import Unavailable

READ, WRITE = Direction.READ, Direction.WRITE
WALL = 0x40000000  # include/uapi/linux/wait.h, __WALL: the process waited for is no child


def vm_read(pid: int, address: int) -> bytes:
    """process_vm_readv(2): GUP on the other side's page, then a copy by the kernel's own mapping."""
    seen = ctypes.create_string_buffer(SAMPLE)
    local, remote = raw.vector((ctypes.addressof(seen), SAMPLE)), raw.vector((address, SAMPLE))
    syscall("process_vm_readv", pid, ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)
    return seen.raw


def vm_write(pid: int, address: int) -> bytes:
    """process_vm_writev(2)."""
    mark = ctypes.create_string_buffer(MARK, len(MARK))
    local, remote = raw.vector((ctypes.addressof(mark), len(MARK))), raw.vector((address, len(MARK)))
    syscall("process_vm_writev", pid, ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)
    return b""


def mem_read(pid: int, address: int) -> bytes:
    """/proc/PID/mem, read."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as stream:
        return os.pread(stream.fileno(), SAMPLE, address)


def mem_write(pid: int, address: int) -> bytes:
    """/proc/PID/mem, written."""
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as stream:
        os.pwrite(stream.fileno(), MARK, address)
    return b""


@contextlib.contextmanager
def traced(pid: int) -> Iterator[None]:
    """Another process stopped, with this one as its tracer."""
    syscall("ptrace", ptrace.PTRACE_ATTACH, pid, 0, 0)
    os.waitpid(pid, WALL)
    try:
        yield
    finally:
        syscall("ptrace", ptrace.PTRACE_DETACH, pid, 0, 0)


def peek(pid: int, address: int) -> bytes:
    """ptrace(PEEKDATA) of a traced process, word by word."""
    seen = (ctypes.c_char * SAMPLE)()
    for offset in range(0, SAMPLE, ptrace.WORD):
        syscall("ptrace", ptrace.PTRACE_PEEKDATA, pid, address + offset, ctypes.addressof(seen) + offset)
    return seen.raw


def poke(pid: int, address: int) -> bytes:
    """ptrace(POKEDATA) of a traced process, one word."""
    syscall("ptrace", ptrace.PTRACE_POKEDATA, pid, address, int.from_bytes(MARK[:7], "little"))
    return b""


def attach_and_peek(pid: int, address: int) -> bytes:
    """ptrace(ATTACH, PEEKDATA, DETACH)."""
    with traced(pid):
        return peek(pid, address)


def attach_and_poke(pid: int, address: int) -> bytes:
    """ptrace(ATTACH, POKEDATA, DETACH)."""
    with traced(pid):
        return poke(pid, address)


ACCESSES = {
    access.__name__: access for access in (vm_read, vm_write, mem_read, mem_write, attach_and_peek, attach_and_poke)
}
"""What an outsider can be asked for."""


def from_outside(target: Target, access: Access, pid: int, address: int) -> bytes:
    """Another process of the same user does it."""
    if target.outsider >= 0:
        return ask(target.outsider, access.__name__, pid, address)
    return raw.elsewhere(lambda: access(pid, address))


def into_host(target: Target, access: Access) -> bytes:
    """Another process of the same user reaches into the host side, which lets itself be looked into."""
    raw.make_dumpable()
    return from_outside(target, access, target.host, target.address)


def _look_into_me() -> bytes:
    raw.make_dumpable()
    secret, pid = ctypes.create_string_buffer(SAMPLE), os.getpid()
    return raw.elsewhere(lambda: vm_read(pid, ctypes.addressof(secret)))


def peers() -> None:
    """Unavailable where processes of one user may not look into each other at all. Asked in a child: the process that
    asks stays as dumpable as it was."""
    try:
        raw.elsewhere(_look_into_me)
    except OSError as error:
        raise Unavailable(
            f"a process may not look into another of its user ({error.strerror})",
            "set kernel.yama.ptrace_scope to 0 or 1",
        ) from error


@path("process_vm_readv-self", READ, calls=("process_vm_readv",))
def vm_read_self(target: Target) -> bytes:
    """process_vm_readv(2) of the process itself."""
    return vm_read(target.host, target.address)


@path("process_vm_writev-self", WRITE, calls=("process_vm_writev",))
def vm_write_self(target: Target) -> bytes:
    """process_vm_writev(2) of the process itself."""
    return vm_write(target.host, target.address)


@path("process_vm_readv-peer", READ, requires=peers, calls=("process_vm_readv",))
def vm_read_peer(target: Target) -> bytes:
    """process_vm_readv(2) by another process of the same user."""
    return into_host(target, vm_read)


@path("process_vm_writev-peer", WRITE, requires=peers, calls=("process_vm_writev",))
def vm_write_peer(target: Target) -> bytes:
    """process_vm_writev(2) by another process of the same user."""
    return into_host(target, vm_write)


@path("proc-self-mem", READ, calls=("openat",))
def mem_read_self(target: Target) -> bytes:
    """/proc/self/mem, read."""
    raw.make_dumpable()
    return mem_read(target.host, target.address)


@path("proc-self-mem", WRITE, calls=("openat",))
def mem_write_self(target: Target) -> bytes:
    """/proc/self/mem, written."""
    raw.make_dumpable()
    return mem_write(target.host, target.address)


@path("proc-pid-mem", READ, requires=peers, calls=("openat",))
def mem_read_peer(target: Target) -> bytes:
    """/proc/PID/mem, read by another process of the same user."""
    return into_host(target, mem_read)


@path("proc-pid-mem", WRITE, requires=peers, calls=("openat",))
def mem_write_peer(target: Target) -> bytes:
    """/proc/PID/mem, written by another process of the same user."""
    return into_host(target, mem_write)


@path("ptrace-peek", READ, requires=peers, calls=("ptrace",))
def ptrace_peek(target: Target) -> bytes:
    """ptrace(ATTACH, PEEKDATA) by another process of the same user."""
    return into_host(target, attach_and_peek)


@path("ptrace-poke", WRITE, requires=peers, calls=("ptrace",))
def ptrace_poke(target: Target) -> bytes:
    """ptrace(ATTACH, POKEDATA) by another process of the same user."""
    return into_host(target, attach_and_poke)
