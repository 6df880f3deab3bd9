"""The zygote as a process: `python -m pagewarden.memory.isolated FD PID`. FD: the zygote's end of its control socket;
PID: the warden's.

Two processes: the launcher, which stays outside the PID namespace to end it when the warden is gone or the zygote is
stopped; and the zygote, the namespace's init, with whose end everything in it ends.
"""

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

from pagewarden.abi import memory as uapi
from pagewarden.kernel import confine
from pagewarden.kernel.door import prctl, readable
from pagewarden.memory.isolated import room
from pagewarden.memory.isolated.forking import serve
from pagewarden.vocab.places import keep_private_cache


def launch(control: int, warden: int) -> None:
    """Make the namespaces, start the zygote in them, and see it die. Returns in the zygote only."""
    confine.fresh_standard_files()
    confine.close_all_but({0, 1, 2, control})
    watch = os.pidfd_open(warden)
    if os.getppid() != warden:
        os._exit(1)
    keep_private_cache()  # else all code is compiled again, at each start
    found = room.leave_namespaces()
    init = os.fork()
    if init == 0:
        os.close(watch)
        prctl(uapi.PR_SET_PDEATHSIG, signal.SIGKILL)
        with socket.socket(fileno=control) as end, suppress(BrokenPipeError, ConnectionResetError):
            serve(end, found)
        os._exit(0)
    os.close(control)
    prctl(uapi.PR_SET_DUMPABLE, 0)
    _see_it_die(init, watch)


def _see_it_die(init: int, warden: int) -> NoReturn:
    """Wait for the zygote's end; end it when the warden is gone (a pidfd), and when it is stopped: the warden would
    wait for it, and starts another one."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        pid, status = os.waitpid(init, os.WNOHANG | os.WUNTRACED)
        if pid and not os.WIFSTOPPED(status):
            os._exit(min(255, abs(os.waitstatus_to_exitcode(status))))
        if pid or warden in readable([warden, wake], None):
            os.kill(init, signal.SIGKILL)
            os.waitpid(init, 0)
            os._exit(1)
        os.read(wake, 64)


launch(int(sys.argv[1]), int(sys.argv[2]))
