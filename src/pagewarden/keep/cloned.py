"""Many memories from one snapshot: they share the pages that none of them has written."""

from pagewarden.abi import uffd
from pagewarden.keep.clean_pages import CleanPages
from pagewarden.keep.cloned_residence import ClonedResidence
from pagewarden.keep.faults import AHEAD
from pagewarden.keep.kept import KeptMemory
from pagewarden.keep.residence import MODES, Residence
from pagewarden.keep.seal import Slots
from pagewarden.kernel.region import Region
from pagewarden.memory.backings.uffd_window import UffdWindow
from pagewarden.memory.ending import insist


class Template(CleanPages):
    """A snapshot that many memories begin with. A page is unsealed once, when the first clone touches it.

    Nobody but this object can write to its file (F_SEAL_FUTURE_WRITE), and it writes there what the snapshot has, and
    nothing else. A page whose copy is refused is refused to every clone that touches it. The snapshot's file must stay
    as it is. Closed while there are clones, it stays until the last of them has gone.
    """

    def clone(self, *, ahead: int = AHEAD) -> "tuple[ClonedMemory, bytes]":
        """A memory that holds what the snapshot has, and the state that came with it. Raises as KeptMemory does,
        ValueError once this is closed."""
        memory = ClonedMemory(self, ahead)
        try:
            memory._share_as(self.manifest)
        except BaseException:
            memory.close()
            raise
        return memory, self.manifest.state


class ClonedMemory(KeptMemory):
    """A memory from `Template.clone`: a KeptMemory without a limit. resident: bytes of pages of its own.

    What it has not written it reads in the template's frames, mapped for reading alone (UFFDIO_CONTINUE of a private
    mapping). The first write to a page, by the guest or by its warden, gives it a frame of its own; so does sharing it
    with the host, which puts the page into this memory's own file: no device reaches a frame of the template.
    """

    def __init__(self, template: Template, ahead: int = AHEAD) -> None:
        self._closed = True
        self._template = template
        template.enter()
        self._entered = True
        try:
            super().__init__(template.size, ahead=ahead)
        except BaseException:
            self._leave()
            raise

    def _place(self, guest: Region, limit: int | None, swap: Slots | None) -> Residence:
        guest.place(self._template.file.fd, shared=False)
        guest.keep_to_this_process()
        self._fault.register(guest.address, guest.size, MODES | uffd.UFFDIO_REGISTER_MODE_MINOR)
        locked = isinstance(self._backing, UffdWindow) and self._backing._locked
        return ClonedResidence(guest, self._backing.file, self._fault, self._state.shared, self._template, locked)

    def _read_there(self, offset: int, length: int) -> bytes:
        assert isinstance(self._residence, ClonedResidence)
        return self._residence.read(offset, length)

    def _leave(self) -> None:
        if self._entered:
            self._entered = False
            self._template.leave()

    def close(self) -> None:
        insist(super().close, self._leave)

    def forked(self) -> None:
        if not self._closed:
            super().forked()
            self._entered = False
            self._template.forked()
