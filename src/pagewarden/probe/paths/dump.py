"""A core dump of the host process: the kernel reads every mapping by GUP and writes it to a file."""

import contextlib
import errno
import io
import os
import resource
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pagewarden.kernel import door
from pagewarden.kernel.door import syscall
from pagewarden.probe import raw
from pagewarden.probe.paths.mappings import mapping_of
from pagewarden.probe.registry import SAMPLE, Direction, Target, path
from pagewarden.vocab import Unavailable
from pagewarden.vocab.places import core_directory

CLONE_VM = 0x100  # include/uapi/linux/sched.h
NOWHERE = 8  # an address that is never mapped
MADV_DODUMP = 17
SHARED_MAPPINGS, PRIVATE_MAPPINGS = "0xa", "0x1"
"""/proc/PID/coredump_filter: anonymous and file-backed shared memory, or anonymous private, nothing else (core(5))."""
STACK = 64 << 10  # bytes
PT_LOAD = 1
PN_XNUM = 0xFFFF
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")  # type, flags, offset, vaddr, paddr, filesz, memsz, align (elf(5))


def plain_core_files() -> None:
    """Unavailable where a core does not go to a file in the working directory."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern or pattern.startswith(("|", "/", "@")):
        raise Unavailable(f"core dumps go to {pattern!r}", "sysctl kernel.core_pattern=core")


@contextlib.contextmanager
def dump_directory() -> Iterator[Path]:
    """An empty working directory, with cores allowed."""
    before, limit = os.getcwd(), resource.getrlimit(resource.RLIMIT_CORE)
    directory = core_directory(os.getpid())
    directory.mkdir(0o700)
    os.chdir(directory)
    resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
    try:
        yield directory
    finally:
        for core in directory.iterdir():
            core.unlink()
        os.chdir(before)
        directory.rmdir()
        resource.setrlimit(resource.RLIMIT_CORE, limit)


def crash_a_twin() -> None:
    """Dump this process's memory without ending it: a process that shares it (CLONE_VM) jumps to nowhere."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    pid = door.twin(NOWHERE, raw.own_memory(STACK) + STACK, CLONE_VM | signal.SIGCHLD)
    os.waitpid(pid, 0)


class DumpSegment(NamedTuple):
    """What a program header of a core file says: bytes `stored` at `at` of the file are those from address `start`, in
    /proc/kcore those of the frames from `physical` on."""

    kind: int
    at: int
    start: int
    physical: int
    stored: int


def parts(core: BinaryIO) -> list[DumpSegment]:
    """The program headers of a core file (elf(5), ELF64); EOFError where even they are cut off."""
    try:
        head = core.read(64)
        table, sections, size, count = *struct.unpack_from("<QQ", head, 32), *struct.unpack_from("<HH", head, 54)
        if count == PN_XNUM:  # more than fit: sh_info of the first section header has the number
            core.seek(sections + 44)
            (count,) = struct.unpack("<I", core.read(4))
        core.seek(table)
        headers = [PROGRAM_HEADER.unpack_from(core.read(size)) for _ in range(count)]
    except struct.error as short:
        raise EOFError("the core's headers are cut off") from short
    return [DumpSegment(kind, at, start, physical, stored) for kind, _, at, start, physical, stored, _, _ in headers]


def from_core(core: bytes, address: int) -> bytes:
    """The bytes that a core file holds for an address; FileNotFoundError if it does not cover it, OSError EFAULT for
    the hole that the kernel leaves where it could not get the page (fs/coredump.c, dump_user_range)."""
    for part in parts(io.BytesIO(core)):
        if part.kind == PT_LOAD and part.start <= address < part.start + part.stored:
            stored_bytes = core[part.at + address - part.start :][:SAMPLE]
            if not any(stored_bytes):
                raise OSError(errno.EFAULT, "the core has a hole where the window is")
            return stored_bytes
    raise FileNotFoundError(2, "the core does not hold the window")


@path("core-dump", Direction.READ, requires=plain_core_files, advice=MADV_DODUMP)
def core_dump(target: Target) -> bytes:
    """A core dump of the host process, which does all it can to have the window in it."""
    raw.make_dumpable()
    has_file = mapping_of(target).file[1]
    Path("/proc/self/coredump_filter").write_text(SHARED_MAPPINGS if has_file else PRIVATE_MAPPINGS)
    with contextlib.suppress(OSError):
        syscall("madvise", target.address, target.length, MADV_DODUMP)
    with dump_directory() as directory:
        crash_a_twin()
        for core in directory.iterdir():
            return from_core(core.read_bytes(), target.address)
    raise FileNotFoundError(2, "no core was written")
