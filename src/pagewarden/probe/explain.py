"""The system calls of a path, as the kernel sees them: it is tried on ordinary memory in a child that is traced."""

import ctypes
import errno
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, NoReturn

from pagewarden.abi import memory as uapi
from pagewarden.abi import ptrace
from pagewarden.kernel import machine
from pagewarden.kernel.door import prctl, syscall
from pagewarden.probe.paths.peers import WALL
from pagewarden.probe.registry import Path
from pagewarden.probe.stages import Here
from pagewarden.probe.trial import BEFORE
from pagewarden.vocab import PAGE_SIZE, Unavailable

NOTE = 0x50570000
"""A prctl that no kernel has: a note of the child's to whoever traces it, with its number and an address."""
BEGINS, TURNS, ENDS = range(3)
QUIET = {
    "brk", "rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sigaltstack", "getpid", "gettid", "set_robust_list",
    "rseq", "getrandom", "exit_group", "clock_gettime", "restart_syscall", "close", "lseek", "fstat", "newfstatat",
    "prlimit64",
}  # fmt: skip
"""Calls of the interpreter and its library, which no path is about."""
VECTORS = {
    "readv": (1,), "writev": (1,), "preadv": (1,), "pwritev": (1,), "vmsplice": (1,), "process_vm_readv": (1, 3),
    "process_vm_writev": (1, 3),
}  # fmt: skip
"""Which arguments are arrays of (address, bytes); how many pieces they have is the next argument."""
BY_DESCRIPTOR = {
    "read", "write", "pread64", "pwrite64", "splice", "tee", "sendfile", "ioctl", "ftruncate", "sendto", "sendmsg",
    "recvfrom", "io_uring_enter", "io_uring_register",
    *(name for name, places in VECTORS.items() if len(places) == 1),
}  # fmt: skip
"""Calls whose first argument is a descriptor."""
ARGUMENTS = {
    1: "exit io_destroy userfaultfd fsync dup pipe",
    2: "munmap pipe2 ftruncate listen memfd_create kill mlock munlock io_uring_setup io_setup",
    3: "read write readv writev ioctl madvise mprotect mincore msync io_submit bind connect socket mlock2 pidfd_getfd",
    4: "vmsplice tee openat ptrace wait4 socketpair fallocate pread64 pwrite64 io_uring_register sendfile",
    5: "io_getevents mremap remap_file_pages clone prctl setsockopt getsockopt statx preadv pwritev",
}
"""How many arguments a call has; six where none of these names it."""
MOST_PIECES, NAME_BYTES = 8, 64
"""Of an array and of a file's name, how much is shown."""
COUNTS = {name: count for count, names in ARGUMENTS.items() for name in names.split()}
OPTIONS = (
    ptrace.PTRACE_O_TRACESYSGOOD | ptrace.PTRACE_O_TRACEFORK | ptrace.PTRACE_O_TRACEVFORK | ptrace.PTRACE_O_TRACECLONE
    | ptrace.PTRACE_O_EXITKILL
)  # fmt: skip
SYSCALL_STOP = signal.SIGTRAP | 0x80


class TracedCall(NamedTuple):
    """A call in words, what it came to, and by which process: 0 is the host, those that it forks count from 1."""

    process: int
    call: str
    result: str


def calls_of(path: Path) -> list[TracedCall | None]:
    """Those of one attempt on a shared page of a memfd, in order; None is where the conversion comes, for a path that
    takes hold before it. Unavailable where the path cannot be tried, or is a tracer's itself."""
    path.requires()
    if "ptrace" in path.calls:
        raise Unavailable("what is traced cannot be traced by another", "read the path's own words")
    if (child := os.fork()) == 0:
        _child(path)
    trace = _Trace(child, path.arms)
    try:
        return list(trace.calls())
    finally:
        trace.end()


def _child(path: Path) -> NoReturn:
    """The whole life of the process that tries."""
    try:
        stage = Here("memfd", path.size)
        stage.share()
        syscall("ptrace", ptrace.PTRACE_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        _note(BEGINS, stage.memory.window.address + path.size // PAGE_SIZE // 2 * PAGE_SIZE)
        if stage.arm(path) is None:
            _note(TURNS)
            stage.use(BEFORE[:4])
        _note(ENDS)
    finally:
        os._exit(0)


def _note(number: int, address: int = 0) -> None:
    with suppress(OSError):
        prctl(NOTE + number, address)


class _Trace:
    """The tracer of a child and of all that it forks."""

    def __init__(self, child: int, arms: bool) -> None:
        self._processes, self._arms = {child: 0}, arms
        self._names = {number: name for name, number in machine.syscalls().items()}
        self._entered: dict[int, tuple[str, list[int], str, bool]] = {}
        self._page, self._turned = 0, False

    def calls(self) -> Iterator[TracedCall | None]:
        """What they do between the notes."""
        child = next(iter(self._processes))
        os.waitpid(child, WALL)
        syscall("ptrace", ptrace.PTRACE_SETOPTIONS, child, 0, OPTIONS)
        self._go_on(child, 0)
        while self._processes:
            pid, status = os.waitpid(-1, WALL)
            if not os.WIFSTOPPED(status):
                self._processes.pop(pid, None)
                continue
            new = pid not in self._processes
            self._processes.setdefault(pid, len(self._processes))
            stop = os.WSTOPSIG(status)
            if stop == SYSCALL_STOP:
                yield from self._at_syscall(pid)
            ours = stop in (SYSCALL_STOP, signal.SIGTRAP) or (new and stop == signal.SIGSTOP)
            self._go_on(pid, 0 if ours else stop)

    def _at_syscall(self, pid: int) -> Iterator[TracedCall | None]:
        info = ptrace.ptrace_syscall_info()
        size = ctypes.sizeof(info)
        syscall("ptrace", ptrace.PTRACE_GET_SYSCALL_INFO, pid, size, ctypes.addressof(info))
        if info.op == ptrace.PTRACE_SYSCALL_INFO_ENTRY:
            name, arguments = self._names.get(info.nr, f"syscall {info.nr}"), list(info.args)
            self._entered[pid] = name, arguments, self._in_words(pid, name, arguments), self._turned
        elif info.op == ptrace.PTRACE_SYSCALL_INFO_EXIT and pid in self._entered:
            name, arguments, words, turned = self._entered.pop(pid)
            number = arguments[0] - NOTE
            if name == "prctl" and BEGINS <= number <= ENDS:
                self._page = {BEGINS: arguments[1], ENDS: 0}.get(number, self._page)
                if number == TURNS and self._arms:
                    self._turned = True
                    yield None
            elif self._page and name not in QUIET:
                words += " (begun before)" * (turned is not self._turned)
                yield TracedCall(self._processes[pid], words, self._result(info.nr))

    def _in_words(self, pid: int, name: str, arguments: list[int]) -> str:
        words = [self._argument(value) for value in arguments[: COUNTS.get(name, 6)]]
        if name in BY_DESCRIPTOR:
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{arguments[0]}")
                words[0] = f"{words[0]}<{target.partition(':')[0] or target}>"
        if name == "openat":
            words[1] = repr(_memory(pid, arguments[1], NAME_BYTES).partition(b"\0")[0].decode(errors="replace"))
        for place in VECTORS.get(name, ()):
            words[place] = self._pieces(pid, arguments[place], min(arguments[place + 1], MOST_PIECES))
        return f"{name}({', '.join(words)})"

    def _pieces(self, pid: int, address: int, count: int) -> str:
        content = _memory(pid, address, ctypes.sizeof(uapi.iovec) * count)
        pieces = [uapi.iovec.from_buffer_copy(content, at) for at in range(0, len(content), ctypes.sizeof(uapi.iovec))]
        return f"[{', '.join(f'({self._argument(piece.iov_base)}, {piece.iov_len})' for piece in pieces)}]"

    def _argument(self, value: int) -> str:
        offset = value - self._page
        if 0 <= offset < PAGE_SIZE:
            return f"PAGE + {offset}" if offset else "PAGE"
        for bits in (32, 64):  # a small negative number
            if 0 < (1 << bits) - value <= 4096:
                return str(value - (1 << bits))
        return str(value) if value < 1 << 20 else f"{value:#x}"

    def _result(self, value: int) -> str:
        return errno.errorcode.get((1 << 64) - value) or self._argument(value)

    def _go_on(self, pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            syscall("ptrace", ptrace.PTRACE_SYSCALL, pid, 0, number)

    def end(self) -> None:
        """Nothing of them is left."""
        for pid in self._processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self._processes:
            with suppress(ChildProcessError):
                os.waitpid(pid, WALL)


def _memory(pid: int, address: int, length: int) -> bytes:
    """Bytes of a process that stands still; fewer, or none, where there are no more."""
    with suppress(OSError), open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), length, address)
    return b""
