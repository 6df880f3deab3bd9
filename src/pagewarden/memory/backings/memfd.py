"""Ordinary shared memory: no protection at all, the baseline that the others are measured against."""

from pagewarden.kernel.door import memfd, punch_hole
from pagewarden.kernel.region import Region
from pagewarden.memory.backings.protocol import Tariff, Wanted, backing
from pagewarden.memory.ending import Composed
from pagewarden.vocab import Event


@backing(
    "memfd",
    0,
    {},  # auto never takes it
    stops="nothing",
    leaves="everything: it is the baseline",
)
class Memfd(Composed):
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
        super().__init__()
        self._file = self.own(memfd("pagewarden", wanted.size))
        self.file = self._file.fd
        self.window = self.guest = self.own(Region(wanted.size))
        self.window.place(self.file)

    def share(self, offset: int, length: int) -> None:
        pass

    def unshare(self, offset: int, length: int) -> None:
        pass

    def punch(self, offset: int, length: int) -> None:
        punch_hole(self.file, offset, length)

    def bar(self) -> None:
        self.window.bar()

    def forked(self) -> None:
        self._file.close()
