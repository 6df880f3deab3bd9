"""Ordinary shared memory: no protection at all, the baseline that the others are measured against."""

from pagewarden.kernel.door import memfd
from pagewarden.kernel.region import Region
from pagewarden.memory.backings.protocol import FileBacked, Tariff, Wanted, backing
from pagewarden.vocab import Event


@backing(
    "memfd",
    0,
    {},  # auto never takes it
    stops="nothing",
    leaves="everything: it is the baseline",
)
class Memfd(FileBacked):
    """A memfd, mapped once for everybody."""

    name = "memfd"
    sharing = unsharing = Tariff()
    punching = Tariff({}, {Event.TLBI: 1})
    compiled = single = None

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.keep(memfd("pagewarden", wanted.size))
        self.window = self.guest = self.own(Region(wanted.size))
        self.window.place(self.file)

    def share(self, offset: int, length: int) -> None:
        pass

    def unshare(self, offset: int, length: int) -> None:
        pass
