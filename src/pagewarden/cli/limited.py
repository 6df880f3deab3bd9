"""Where memory is short, libraries in C may end the process at once, with the status of an answer, or the kernel."""

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pagewarden.abi.memory import PR_SET_PDEATHSIG
from pagewarden.kernel.door import prctl
from pagewarden.kernel.free_memory import available
from pagewarden.vocab import Unavailable
from pagewarden.vocab.host import LIMITS
from pagewarden.vocab.places import forget_cores

_LIMITED = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
_TIGHT = 1 << 30
"""Bytes that the machine or the control group still gives: with less, the kernel may have to kill."""
_PASSED = (signal.SIGTERM, signal.SIGHUP)


def watched(call: Callable[[], int]) -> int:
    """The status that `call` returns. Where memory is limited, or little is left, it runs in a child: seen there are
    OpenBLAS and an emulator that call exit(1) when they get no memory, and the kernel's killer, which takes the child
    first (Documentation/filesystems/proc.rst, oom_score_adj). Unavailable when it ended without a word."""
    limited = any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in _LIMITED)
    if not limited and available() >= _TIGHT:
        return call()
    ours, theirs = os.pipe()
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED)
    try:
        child = os.fork()
    except OSError:  # no process can be had: as it is, then
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED)
        return call()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        if os.getppid() == parent:
            os.write(theirs, bytes([call()]))
        os._exit(0)
    os.close(theirs)
    usual = {number: signal.signal(number, lambda sent, _: os.kill(child, sent)) for number in _PASSED}
    usual[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child has it too, and says how it ended
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED)
    try:
        with os.fdopen(ours, "rb") as answer:
            said = answer.read(1)
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    if said:
        return said[0]
    forget_cores()
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in _PASSED:
        os.kill(parent, os.WTERMSIG(status))
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
    raise Unavailable(f"a library or the kernel ended the program ({how}): it got no memory", LIMITS)
