"""What belongs to the process that made it: a forked child finds that it refuses, and cannot touch the parent's."""

import os
import weakref

from pagewarden.vocab import UserMistake


class OwnProcess:
    """Something that a fork does not hand on. `os.fork` and multiprocessing's "fork" run `forked` in the child, before
    anything else of it: there it must lose every way to the parent's things, and close what the fork copied."""

    def __init__(self) -> None:
        self._maker = os.getpid()
        _living.add(self)

    def forked(self) -> None:
        """In the child, once. Must not raise, wait, or touch what is shared with the parent."""
        raise NotImplementedError

    def foreign(self) -> UserMistake:
        """What every method says in a child."""
        return UserMistake(
            f"this belongs to process {self._maker}, which forked this one; make a PrivateMemory here, and pass bytes "
            "between the two through a pipe, or start the worker before (multiprocessing: the start method 'spawn')"
        )


def closed() -> Exception:
    """What every method says once the memory is closed."""
    return ValueError("the memory is closed")


_living: "weakref.WeakSet[OwnProcess]" = weakref.WeakSet()


def _in_the_child() -> None:
    for each in list(_living):
        each.forked()
    _living.clear()


os.register_at_fork(after_in_child=_in_the_child)
