"""A program that believes its cache of compiled code, or does not. `cached.py forge MARKER` puts code there that makes
a file of that name, with every digest right; `cached.py load MARKER HOME...` asks for it, as numba would, in each of
the homes (XDG_CACHE_HOME), and writes a line for each: was it read.
"""

import os
import pickle
import sys
from pathlib import Path
from typing import Any

from pagewarden.vocab import compiled, places


def some(x: int) -> int:
    return x + 1


class Machine:
    """What numba asks for the code's machine."""

    def refresh(self) -> None:
        pass

    def codegen(self) -> "Machine":
        return self

    def magic_tuple(self) -> tuple[str, str]:
        return ("this", "one")


class Sprung:
    """A pickle that makes a file when it is read."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.open, (self.marker, os.O_CREAT | os.O_WRONLY)


def cache() -> compiled.Kept:
    compiled._place.cache_clear()
    return compiled.Kept(some, compiled._place(str(Path(__file__).parent)))


def main(verb: str, marker: str, *homes: str) -> None:
    if verb == "forge":
        path, key = cache()._file("(int64,)", Machine().magic_tuple())
        places.keep(path, key, pickle.dumps(Sprung(marker)))
        print(path)
    for home in homes:
        os.environ["XDG_CACHE_HOME"] = home
        assert cache().load_overload("(int64,)", Machine()) is None
        print(os.path.exists(marker))
        Path(marker).unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
