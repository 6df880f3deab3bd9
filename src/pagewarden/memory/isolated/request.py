"""What the warden asks for, and how a zygote answers: it hears of a module alone, over sockets that no host side has.
The rest is for the new host side, on its own channel."""

import os
import pickle
from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from pagewarden.vocab import UserMistake

ANSWER = Struct("<qq")
"""What the zygote says of a host side: first (0, 0 or an errno), its pidfd along, then (1, exit status)."""
STARTED, ENDED = 0, 1
REQUEST_MAX = 128 << 10
"""Bytes of a pickled function and its arguments: one message of a SOCK_SEQPACKET socket."""


class SpawnRequest(NamedTuple):
    """What the warden asks for: a host side on a memory of `size` bytes that runs a function."""

    size: int
    warden: int
    numbers: tuple[int, ...]
    module: str
    qualname: str
    arguments: tuple[Any, ...]

    @classmethod
    def checked(
        cls, size: int, numbers: tuple[int, ...], function: Callable[..., object], arguments: tuple[Any, ...]
    ) -> bytes:
        """The request, pickled; UserMistake unless the function can be imported by name and all of it is small."""
        if "<" in function.__qualname__ or function.__module__ == "__main__":
            raise UserMistake(
                f"{function.__qualname__} of {function.__module__} cannot be imported by a new process: "
                "define it at the top of a module that is imported; a script can import itself by its name: "
                "`if __name__ == '__main__': import mine; mine.main()`"
            )
        request = cls(size, os.getpid(), numbers, function.__module__, function.__qualname__, arguments)
        data = pickle.dumps(tuple(request))
        if len(data) > REQUEST_MAX:
            raise UserMistake(
                f"{len(data)} bytes of arguments are too many to pass (at most {REQUEST_MAX}): put the data into a "
                "file and keep that"
            )
        return data
