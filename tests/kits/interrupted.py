"""Run pagewarden and press Ctrl-C after so many calls of Python functions: `interrupted.py CALLS VERB ...`.

CALLS 0 presses nothing, and the last line on standard error is how many calls there were. Where Python itself swallows
it, in what ends a generator or an object, it is pressed again at the next call, as a user would.
"""

import os
import signal
import sys
from types import FrameType


def run(at: int, arguments: list[str]) -> None:
    from pagewarden.cli import main

    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event == "call":
            calls += 1
            if calls == at:
                os.killpg(0, signal.SIGINT)  # as a terminal does: the whole group

    def swallowed(what: "sys.UnraisableHookArgs") -> None:
        nonlocal at
        if what.exc_type is KeyboardInterrupt:
            at = calls + 1
            sys.setprofile(count)  # what it raises ends it
        else:
            sys.__unraisablehook__(what)

    sys.unraisablehook = swallowed
    sys.argv = ["pagewarden", *arguments]
    sys.setprofile(count)
    try:
        main()
    finally:
        sys.setprofile(None)
        if not at:
            print(calls, file=sys.stderr)


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2:])
