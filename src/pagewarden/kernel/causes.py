"""Why a call to the kernel fails, and what helps: one table for all calls whose failure is foreseen."""

import errno
import os
from functools import cache

from pagewarden.vocab.host import REMEDIES

FILTER = "a seccomp filter refuses it, as container runtimes do", "allow the system call in the container's profile"
NO_FDS = "this process has no descriptor left (RLIMIT_NOFILE)", "close some, or raise `ulimit -n`"
NO_FILES = "the system has no file left", "raise the sysctl fs.file-max"
NO_MEMORY = (
    "no memory, no room in the address space (RLIMIT_AS), or too many mappings (vm.max_map_count)",
    "make the memory smaller, or raise what is short: `ulimit -v`, sysctl vm.max_map_count",
)
MAPPINGS = (
    "the process has used up its mappings (vm.max_map_count): a scattered pattern takes two for each run of pages",
    "share contiguous pages, raise the sysctl vm.max_map_count, or take a uffd-window",
)

CAUSES: dict[tuple[str, int], tuple[str, str]] = {
    ("memfd_create", errno.EPERM): FILTER,
    ("memfd_create", errno.ENOSYS): FILTER,
    ("memfd_create", errno.EACCES): ("the sysctl vm.memfd_noexec forbids it", "set vm.memfd_noexec below 2"),
    ("memfd_create", errno.EMFILE): NO_FDS,
    ("memfd_create", errno.ENFILE): NO_FILES,
    ("memfd_secret", errno.EPERM): FILTER,
    ("memfd_secret", errno.ENOSYS): (
        "it is not compiled in or not enabled",
        "needs CONFIG_SECRETMEM=y, and before Linux 6.5 secretmem.enable=1 at boot",
    ),
    ("memfd_secret", errno.EMFILE): NO_FDS,
    ("memfd_secret", errno.ENFILE): NO_FILES,
    ("ftruncate", errno.EFBIG): ("more than a file may have (RLIMIT_FSIZE)", "raise `ulimit -f`"),
    ("ftruncate", errno.EINVAL): ("the kernel does not take that size", "make the memory smaller"),
    ("userfaultfd", errno.EPERM): FILTER,  # with UFFD_USER_MODE_ONLY no sysctl matters (fs/userfaultfd.c)
    ("userfaultfd for kernel faults", errno.EPERM): (
        "an ordinary user may not handle the kernel's faults",
        "sysctl vm.unprivileged_userfaultfd=1, or CAP_SYS_PTRACE",
    ),
    ("userfaultfd", errno.ENOSYS): ("it is not compiled in", "needs a kernel with CONFIG_USERFAULTFD=y"),
    ("userfaultfd", errno.EMFILE): NO_FDS,
    ("userfaultfd", errno.ENFILE): NO_FILES,
    ("userfaultfd", errno.EINVAL): ("it knows no UFFD_USER_MODE_ONLY", "needs Linux 5.11"),
    ("UFFDIO_API", errno.EINVAL): ("the kernel lacks a feature that was asked for", "needs a newer kernel"),
    ("UFFDIO_REGISTER", errno.EINVAL): ("this kind of mapping cannot be guarded that way", "needs Linux 5.14"),
    ("UFFDIO_REGISTER", errno.EBUSY): ("another userfaultfd guards it", "close that one"),
    ("UFFDIO_REGISTER", errno.ENOMEM): NO_MEMORY,
    ("mmap", errno.ENOMEM): NO_MEMORY,
    ("mprotect", errno.ENOMEM): MAPPINGS,
    ("madvise", errno.ENOMEM): NO_MEMORY,
    ("fallocate", errno.ENOMEM): NO_MEMORY,
}
"""(call, errno): the likely cause, and the remedy."""


class CallFailed(OSError):
    """The kernel said no: which call it was, why probably, and what helps. It is of the class that Python has for the
    errno as well (TimeoutError, FileExistsError ...)."""

    cause: str
    advice: str

    def __new__(cls, call: str, code: int) -> "CallFailed":
        cause, advice = CAUSES.get((call, code), ("", ""))
        words = f"{call}: {os.strerror(code)}"
        made = OSError.__new__(_of_errno(code), code, f"{words} ({cause}; {advice})" if cause else words)
        made.cause, made.advice = cause, advice
        return made

    def __init__(self, call: str, code: int) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return CallFailed, (self.call, self.errno)


@cache
def _of_errno(code: int) -> type[CallFailed]:
    kind = type(OSError(code, ""))
    return CallFailed if kind is OSError else type("CallFailed", (CallFailed, kind), {})


def lacking(error: OSError) -> tuple[str, str]:
    """What an Unavailable says of it: what is lacking, and the advice."""
    if isinstance(error, CallFailed) and error.cause:
        return f"{error.call}: {os.strerror(error.errno or 0)}, {error.cause}", error.advice
    return str(error), REMEDIES.get(error.errno or 0, "nobody foresaw this: please report it with `uname -a`")
