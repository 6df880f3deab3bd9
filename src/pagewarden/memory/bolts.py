"""What keeps the quick way shut: changes of one page in compiled code (protocol.Single), which take no lock."""

from array import array

BUSY, ASKED, LENT = range(3)
"""Words that the compiled code looks at, at one with its change, for it keeps the GIL: how many times somebody needs
that nothing changes meanwhile; whether somebody may have to be asked or told first; whether pages may be lent."""


class Bolts:
    """Drawn by who has the memory's lock; as a context manager, nothing changes the quick way meanwhile. Where an
    exception comes in between, one that stays drawn costs speed only."""

    def __init__(self) -> None:
        self.words = array("q", [0, 0, 0])
        self.address, _ = self.words.buffer_info()

    def __enter__(self) -> None:
        self.words[BUSY] += 1

    def __exit__(self, *failure: object) -> None:
        self.words[BUSY] -= 1
