"""One process reaching into another's memory, or into its own by the same doors."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator

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


def by_itself(access: Access) -> Callable[[Target], bytes]:
    """The host side does it to itself, and lets itself be looked into."""

    def touch(target: Target) -> bytes:
        raw.make_dumpable()
        return access(target.host, target.address)

    return touch


def by_another(access: Access) -> Callable[[Target], bytes]:
    """Another process of the same user does it to the host side."""
    return lambda target: into_host(target, access)


for _name, _direction, _access in ("readv", READ, vm_read), ("writev", WRITE, vm_write):
    _call = f"process_vm_{_name}"
    path(f"{_call}-self", _direction, calls=(_call,), about=f"{_call}(2) of the process itself.")(by_itself(_access))
    _about = f"{_call}(2) by another process of the same user."
    path(f"{_call}-peer", _direction, requires=peers, calls=(_call,), about=_about)(by_another(_access))
for _name, _direction, _access in ("read", READ, mem_read), ("written", WRITE, mem_write):
    path("proc-self-mem", _direction, calls=("openat",), about=f"/proc/self/mem, {_name}.")(by_itself(_access))
    _about = f"/proc/PID/mem, {_name} by another process of the same user."
    path("proc-pid-mem", _direction, requires=peers, calls=("openat",), about=_about)(by_another(_access))
for _name, _direction, _access in ("peek", READ, attach_and_peek), ("poke", WRITE, attach_and_poke):
    _about = f"ptrace(ATTACH, {_name.upper()}DATA) by another process of the same user."
    path(f"ptrace-{_name}", _direction, requires=peers, calls=("ptrace",), about=_about)(by_another(_access))
