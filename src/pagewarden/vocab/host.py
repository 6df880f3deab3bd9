"""What a host refuses its programs, by errno: a likely cause and what helps, in one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pagewarden.vocab.errors import InternalError, PagewardenError, Refused

OUTPUT = "standard output"
LIMITS = "see ulimit -v, -d and -l, the cgroup's memory.max, and vm.max_map_count"
NO_THREAD = ("no thread can be started", f"a limit on processes or memory: see ulimit -u and pids.max; {LIMITS}")
"""What is missing, and what helps."""
REMEDIES = {
    errno.ENOSPC: "make room there, or let TMPDIR name a place that has some",
    errno.EDQUOT: "the quota is used up: make room, or let TMPDIR name another place",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EIO: "the device or file system under it fails: see the kernel's log (dmesg)",
    errno.EROFS: "the file system is read-only: name a place that can be written",
    errno.EACCES: "ask for the permission, or name a place that is yours",
    errno.EPERM: "a container, a seccomp filter or a missing capability forbids it: run where it is allowed",
    errno.ENOSYS: "a seccomp filter forbids it, or the kernel lacks it: run where it is there",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "the host has no open files left: close some, or raise the sysctl fs.file-max",
    errno.ENOMEM: f"memory is short, or limited: {LIMITS}",
    errno.EAGAIN: f"a limit on processes, threads or locked memory: see ulimit -u and -l, and pids.max; {LIMITS}",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is no directory: check it",
    errno.EISDIR: "name a file",
    errno.ELOOP: "symbolic links lead in a circle: check the path",
    errno.ENAMETOOLONG: "the name is too long: take a shorter one",
    errno.EBUSY: "somebody else uses it: try again, or name another",
    errno.ETXTBSY: "it is being executed: name another file",
    errno.ENXIO: "nobody is at its other end: name a file",
    errno.ENODEV: "the device is gone: check the path",
}
"""What helps, by errno."""
_MOUNTED = ("/proc/", "/sys/")


def is_hosts(error: OSError) -> bool:
    """Whether the host or its user can mend it; what is left (EBADF, EINVAL, EFAULT, ...) is our own bug. Without an
    errno it is a shared library that could not be loaded."""
    return error.errno is None or error.errno in REMEDIES


_SHORT = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EAGAIN,
    errno.EPERM,
    errno.ENOSYS,
)


def is_short(error: BaseException) -> str:
    """What the host is short of or forbids, whatever was being done, in words; empty when the error says more."""
    match error:
        case OSError():
            missing = error.errno == errno.ENOENT and str(error.filename).startswith(_MOUNTED)
            return in_words(error) if missing or error.errno in _SHORT else ""
        case Refused():
            return mendable(error) if error.errno in _SHORT else ""
        case MemoryError() | RuntimeError():
            return mendable(error)
    return ""


@contextmanager
def naming(what: str) -> Iterator[None]:
    """An OSError that names nothing is of `what`."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or what
        raise


def in_words(error: OSError) -> str:
    """What failed, why, and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    why = error.strerror or str(error)
    mounted = "; it must be mounted" if error.errno == errno.ENOENT and where.startswith(_MOUNTED) else ""
    return f"{where}{why}; {REMEDIES.get(error.errno or 0, LIMITS)}{mounted}"


def mendable(error: BaseException) -> str:
    """What the host or its user can mend, in one line; empty for a bug of ours."""
    match error:
        case Refused() if "; " not in str(error) and error.errno in REMEDIES:
            return f"{' '.join(str(error).split())}; {REMEDIES[error.errno]}"
        case PagewardenError() if not isinstance(error, InternalError):
            return " ".join(str(error).split())
        case MemoryError():
            return f"not enough memory{f' ({error})' if str(error) else ''}; ask for less, or {LIMITS}"
        case RecursionError():
            return f"something is nested too deeply for Python ({error}); ask for less of it, or simplify the input"
        case RuntimeError() if "can't start new thread" in str(error):
            return "; ".join(NO_THREAD)
        case OSError() if is_hosts(error):
            return in_words(error)
        case ImportError() if not (error.name or "").startswith("pagewarden"):
            return f"{error.name or 'a library'} cannot be loaded: {error}; install it again, or {LIMITS}"
    return ""
