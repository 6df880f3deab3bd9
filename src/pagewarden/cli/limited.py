"""Under a limit on memory, libraries written in C may end the process at once, with the status of an answer."""

import os
import resource
import signal
from collections.abc import Callable

from pagewarden.abi.memory import PR_SET_PDEATHSIG
from pagewarden.kernel.door import prctl
from pagewarden.vocab import Unavailable
from pagewarden.vocab.host import LIMITS

_LIMITED = (resource.RLIMIT_AS, resource.RLIMIT_DATA)


def watched(call: Callable[[], int]) -> int:
    """The status that `call` returns. With a limit it runs in a child: seen there are OpenBLAS and an emulator that
    call exit(1) when they get no memory. Unavailable when it ended without a word."""
    if all(resource.getrlimit(limit)[0] == resource.RLIM_INFINITY for limit in _LIMITED):
        return call()
    ours, theirs = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            os.write(theirs, bytes([call()]))
        os._exit(0)
    os.close(theirs)
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child has it too, and says how it ended
    try:
        with os.fdopen(ours, "rb") as answer:
            said = answer.read(1)
        _, status = os.waitpid(child, 0)
    finally:
        signal.signal(signal.SIGINT, usual)
    if said:
        return said[0]
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
    raise Unavailable(f"a library ended the program ({how}): it got no memory", LIMITS)
