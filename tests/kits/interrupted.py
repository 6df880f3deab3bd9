"""Run pagewarden and press Ctrl-C after so many calls of Python functions: `interrupted.py CALLS VERB ...`.

CALLS 0 presses nothing, and the last line on standard error is how many calls there were.
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
