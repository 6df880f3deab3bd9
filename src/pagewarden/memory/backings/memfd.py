"""Ordinary shared memory: no protection at all, the baseline that the others are measured against."""

import os
from contextlib import ExitStack

from pagewarden.kernel.door import memfd, punch_hole
from pagewarden.kernel.region import Region
from pagewarden.memory.backings.protocol import Tariff, Wanted, backing
from pagewarden.vocab import Event


@backing(
    "memfd",
    0,
    {},  # auto never takes it
    stops="nothing",
    leaves="everything: it is the baseline",
)
class Memfd:
    """A memfd, mapped once for everybody."""

    name = "memfd"
    whole_file = False
    idle_unshare = True
    sharing = unsharing = Tariff()
    punching = Tariff({}, {Event.TLBI: 1})
    compiled = single = None
    spawn = None
    missing = ()

    def __init__(self, wanted: Wanted) -> None:
        with ExitStack() as undo:
            self.file = memfd("pagewarden", wanted.size)
            undo.callback(os.close, self.file)
            self.window = self.guest = Region(wanted.size)
            undo.callback(self.window.close)
            self.window.place(self.file)
            self._release = undo.pop_all()

    def share(self, offset: int, length: int) -> None:
        pass

    def unshare(self, offset: int, length: int) -> None:
        pass

    def punch(self, offset: int, length: int) -> None:
        punch_hole(self.file, offset, length)

    def bar(self) -> None:
        self.window.bar()

    def forked(self) -> None:
        os.close(self.file)

    def close(self) -> None:
        self._release.close()
