"""What processes of `check` are told to do by tests/check/test_many.py."""

import os
import signal

from pagewarden.vocab import InternalError


def does(what: str) -> str:
    match what:
        case "interrupt":
            os.kill(os.getppid(), signal.SIGINT)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fail":
            raise InternalError("it failed")
        case "answer":
            return str(os.getpid())
        case "deaf":
            return str(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    while True:
        signal.pause()
