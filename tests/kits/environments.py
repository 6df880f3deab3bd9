"""Hosts that are short of something: what a process does to itself, or to its own mounts, before it runs a verb.

Each is entered by a process of its own, in a mount namespace of its own; `place` is a directory that is its alone, with
home/ and tmp/ in it.
"""

import ctypes
import errno
import mmap
import os
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from denied import deny
from pagewarden.abi.confinement import CLONE_NEWNS, CLONE_NEWUSER
from pagewarden.abi.memory import PR_SET_DUMPABLE
from pagewarden.kernel.door import prctl, syscall

KIB, MIB = 1 << 10, 1 << 20
MS_RDONLY, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 4, 32, 4096, 16384, 1 << 18
SOMEBODY = 54321
"""An ordinary user without an entry in the password file."""
Enter = Callable[[Path], None]
KERNEL, HOME, TMP, FILES, PROCESS = "kernel", "home", "tmp", "files", "process"
"""What a verb may need: special system calls, a home to write to, a place for temporary files, a place that was named,
and what every process needs."""


@dataclass(frozen=True)
class Environment:
    """lacks: a verb that needs none of this must give its answer here all the same."""

    enter: Enter
    lacks: frozenset[str] = frozenset({KERNEL})
    verbs: tuple[str, ...] = ("check fails",)
    """Those that are tried here whenever the tests run; the others by `make environments`."""
    sysctl: tuple[str, str] | None = None
    """A setting of the whole host, while a verb runs here: its file under /proc/sys, and what is written there."""
    slow: bool = True
    """Whether the verbs that take long are tried here, too: not for a single call, which the others make as well."""
    group: tuple[str, int] | None = None
    """A control group's controller and limit."""


def some(*names: str) -> frozenset[str]:
    return frozenset(names)


SHORT = some(KERNEL, HOME, TMP, FILES, PROCESS)
NOTHING = some()


def mount(what: str, where: Path | str, flags: int = 0, kind: str = "", options: str = "") -> None:
    """mount(2)."""
    texts = [ctypes.create_string_buffer(str(text).encode()) for text in (what, where, kind, options)]
    source, target, form, data = (ctypes.addressof(text) for text in texts)
    syscall("mount", source, target, form, flags, data)


def own_mounts() -> None:
    """From now on mounts are this process's and its children's own, and so is what is shared by name."""
    if os.geteuid() == 0:
        syscall("unshare", CLONE_NEWNS)
    else:
        user, group = os.geteuid(), os.getegid()
        syscall("unshare", CLONE_NEWNS | CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    mount("none", "/", MS_REC | MS_PRIVATE)
    mount("none", "/dev/shm", kind="tmpfs", options="mode=1777")
    for needed in {Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]}:
        to_be_read_by_all(needed)


def read_only(where: Path | str) -> None:
    """As a bind mount that cannot be written."""
    mount(str(where), where, MS_BIND | MS_REC)
    mount("none", where, MS_BIND | MS_REMOUNT | MS_RDONLY)


def empty(where: str, options: str = "") -> Enter:
    """Nothing of what is usually there."""
    return lambda place: mount("none", where, kind="tmpfs", options=options)


def full_tmpdir(place: Path) -> None:
    mount("none", place / "tmp", kind="tmpfs", options="size=16k")
    file = os.open(place / "tmp" / "full", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(file, bytes(4 * KIB))
    except OSError as full:
        assert full.errno == errno.ENOSPC
    os.close(file)


def read_only_home(place: Path) -> None:
    os.environ.pop("XDG_CACHE_HOME", None)
    read_only(place / "home")


def read_only_install(place: Path) -> None:
    read_only(Path(__file__).parents[2])


def read_only_container(place: Path) -> None:
    """Everything, as `--read-only` has it, /dev, /proc and /sys apart."""
    os.environ.pop("XDG_CACHE_HOME", None)
    mount("/", "/", MS_BIND | MS_REMOUNT | MS_RDONLY)
    read_only(place)


def no_home(place: Path) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME"):
        os.environ.pop(name, None)
    ordinary_user(place)


def ordinary_user(place: Path) -> None:
    """With code of its own that is compiled already."""
    compiled = os.environ.get("XDG_CACHE_HOME")
    if compiled:
        os.environ["XDG_CACHE_HOME"] = str(place / "home" / "cache")
        shutil.copytree(compiled, place / "home" / "cache", ignore=shutil.ignore_patterns("lab"))
    for made in (place, *place.rglob("*")):
        os.chown(made, SOMEBODY, SOMEBODY)
    os.setgroups([])
    os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
    os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    prctl(PR_SET_DUMPABLE, 1)  # as after an execve


def to_be_read_by_all(directory: Path) -> None:
    """Nothing above it stands in the way of an ordinary user: in these mounts, a directory that does has no other."""
    for closed in reversed(directory.parents):
        if closed.stat().st_mode & 0o005 != 0o005:
            behind = os.open(closed, os.O_PATH)
            mount("none", closed, kind="tmpfs", options="mode=755")
            below = directory.relative_to(closed).parts[0]
            (closed / below).mkdir()
            mount(f"/proc/self/fd/{behind}/{below}", closed / below, MS_BIND | MS_REC)
            os.close(behind)


def limited(limit: int, value: int) -> Enter:
    return lambda place: resource.setrlimit(limit, (value, value))


def denied(code: int, *calls: str) -> Enter:
    return lambda place: deny(code, list(calls))


def few_mappings(left: int) -> Enter:
    """As many mappings as vm.max_map_count allows, but so many."""

    def enter(place: Path) -> None:
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
        have = Path("/proc/self/maps").read_text().count("\n")
        pages = most - have - left
        area = mmap.mmap(-1, pages * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for page in range(1, pages, 2):
            syscall("mprotect", start + page * mmap.PAGESIZE, mmap.PAGESIZE, 0)
        KEPT.append(area)

    return enter


KEPT: list[mmap.mmap] = []


def no_directory(place: Path) -> None:
    """The current directory is gone."""
    gone = place / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()


def closed(*fds: int) -> Enter:
    def enter(place: Path) -> None:
        for fd in fds:
            os.close(fd)

    return enter


def full_stdout(place: Path) -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def no_reader(place: Path) -> None:
    reads, writes = os.pipe()
    os.dup2(writes, 1)
    os.close(reads)
    os.close(writes)


def variables(**them: str) -> Enter:
    return lambda place: os.environ.update(them)


def nothing(place: Path) -> None:
    pass


def no_devices(place: Path) -> None:
    """Device files are there and cannot be opened."""
    mount("/dev", "/dev", MS_BIND | MS_REC)
    mount("none", "/dev", MS_BIND | MS_REMOUNT | MS_NODEV)


CALLS = {
    "memfd_create": ("run interpreted", "probe --isolated"),
    "memfd_secret": ("run memfd-secret",),
    "userfaultfd": ("calibrate",),
    "perf_event_open": ("probe",),
    "io_uring_setup": ("probe",),
    "process_vm_readv": ("probe",),
    "pidfd_open": ("probe --isolated", "probe"),
    "splice": ("calibrate",),
    "fallocate": ("calibrate",),
    "unshare": ("probe --isolated",),
    "socketpair": ("probe --isolated",),
    "madvise": ("check fails",),
    "process_vm_writev": (), "pidfd_getfd": (), "vmsplice": (), "tee": (), "ptrace": (), "clone3": (), "setns": (),
    "landlock_create_ruleset": (), "capset": (), "mremap": (), "mlock2": (), "eventfd2": (), "keyctl": (), "preadv": (),
    "pwritev": (), "sched_setaffinity": (), "mount": (), "flock": (),
}  # fmt: skip
"""System calls that some may not make, and verbs that make them."""
CONTAINER = (
    "userfaultfd", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register", "process_vm_readv",
    "process_vm_writev", "ptrace", "pidfd_getfd", "unshare", "setns", "mount", "keyctl", "bpf", "kcmp", "move_pages",
    "name_to_handle_at", "open_by_handle_at", "memfd_secret",
)  # fmt: skip
"""What container runtimes deny, in one or another version."""

LIMITS = {
    "files": (resource.RLIMIT_NOFILE, (6, 8, 12, 16, 24, 40)),
    "locked memory": (resource.RLIMIT_MEMLOCK, (0, 64 * KIB)),
    "MiB of addresses": (resource.RLIMIT_AS, tuple(n * MIB for n in (200, 300, 500, 700, 1000, 2000))),
    "MiB of data": (resource.RLIMIT_DATA, tuple(n * MIB for n in (40, 80, 160, 400))),
    "bytes of file": (resource.RLIMIT_FSIZE, (0, 4096, MIB)),
    "bytes of core": (resource.RLIMIT_CORE, (0, MIB)),
}

OF_ALL = (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)
ENVIRONMENTS: dict[str, Environment] = {
    "ordinary": Environment(nothing, NOTHING),
    "full TMPDIR": Environment(full_tmpdir, some(TMP), ("check --trace", "run interpreted", "probe")),
    "read-only home": Environment(read_only_home, some(HOME), ("check fails", "calibrate", "probe")),
    "read-only install": Environment(read_only_install, NOTHING),
    "read-only container": Environment(
        read_only_container, some(HOME, TMP, FILES), ("check --trace", "run interpreted")
    ),
    "no home": Environment(no_home, some(KERNEL, HOME), ("check fails", "calibrate", "probe")),
    "ordinary user": Environment(ordinary_user, verbs=("check fails", "probe", "calibrate")),
    "ordinary user with userfaultfd": Environment(ordinary_user, verbs=(), sysctl=("vm/unprivileged_userfaultfd", "1")),
    "no /proc": Environment(
        empty("/proc"), some(KERNEL, HOME), ("check fails", "probe --isolated", "run interpreted", "calibrate")
    ),
    "no /sys": Environment(empty("/sys")),
    "no /dev": Environment(empty("/dev")),
    "no /dev/shm": Environment(empty("/dev/shm", "size=4k,nr_inodes=1")),
    "no devices": Environment(no_devices),
    "no directory": Environment(no_directory),
    "no standard input": Environment(closed(0), NOTHING),
    "no standard output": Environment(closed(1), NOTHING),
    "no standard error": Environment(closed(2), NOTHING),
    "no standard files": Environment(closed(0, 1, 2), NOTHING),
    "full standard output": Environment(full_stdout, SHORT, ("law", "check fails")),
    "no reader": Environment(no_reader, SHORT, ("law", "check fails")),
    "ASCII": Environment(variables(PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0"), NOTHING),
    "60 columns": Environment(variables(COLUMNS="60"), NOTHING),
    "one processor": Environment(lambda place: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])),
    "50 mappings": Environment(few_mappings(50), SHORT, ("run memfd-secret", "calibrate")),
    "300 mappings": Environment(few_mappings(300), SHORT),
    "1000 mappings": Environment(few_mappings(1000), SHORT),
    "a container": Environment(denied(errno.EPERM, *CONTAINER), verbs=("probe", "run interpreted")),
    **{
        f"{value if value < MIB or unit.startswith('bytes') else value // MIB} {unit}": Environment(
            limited(limit, value),
            SHORT,
            ("check fails", "run interpreted") if limit in OF_ALL else ("check fails",),
        )
        for unit, (limit, values) in LIMITS.items()
        for value in values
    },
    **{
        f"group of {limit} processes": Environment(nothing, SHORT, ("run interpreted", "probe"), group=("pids", limit))
        for limit in (1, 2, 4, 12)
    },
    **{
        f"group of {limit // MIB} MiB": Environment(nothing, SHORT, ("check fails",), group=("memory", limit))
        for limit in (12 * MIB, 40 * MIB, 120 * MIB, 400 * MIB)
    },
    **{
        f"{call} {errno.errorcode[code]}": Environment(denied(code, call), verbs=verbs, slow=False)
        for call, verbs in CALLS.items()
        for code in (errno.EPERM, errno.ENOSYS)
    },
}
