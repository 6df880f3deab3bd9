"""`python -m pagewarden`, and the `pagewarden` command."""

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """The command line. Ctrl-C while it is being imported ends the process at once, with the status that cli/status.py
    gives it later: there is nothing to tidy yet, and nothing to say."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else who started it has it ignored
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from pagewarden.cli import main as verbs

    verbs()


if __name__ == "__main__":
    main()
