"""The warden of a device behind an IOMMU: it lends what the guest maps for DMA, and takes it back.

A page is opened for an I/O page that the device asked for and the front end's IOMMU translates; an INVALIDATE is
acknowledged once the page was seen closed.
"""

import socket

from pagewarden.abi.vhost_user import IotlbType
from pagewarden.abi.virtio import VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_INDIRECT_DESC
from pagewarden.vhost.guarded import GuardedHost
from pagewarden.vhost.kinds import ServedDevice
from pagewarden.vhost.messages import FrontEndFault
from pagewarden.vhost.questions import Questions
from pagewarden.vhost.translated import SPAN
from pagewarden.vhost.wire import NEVER
from pagewarden.virtio.placing import OPEN, SHIFT, WRITABLE
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE

WHOLE = 1 << 40
"""Bytes of an INVALIDATE that is meant for all: no mapping is so long."""
PASSES_THROUGH = (
    "the guest's IOMMU passes I/O addresses through, so that the device could name any page: "
    "boot it with iommu.passthrough=0"
)
LAZY = (
    "the guest takes pages back lazily, all at once and late, so that finished buffers stay open: boot it with "
    "iommu.strict=1, or say --allow-lazy to serve it all the same"
)
NO_IOMMU = (
    "the device is behind no IOMMU of QEMU's: add -device intel-iommu,intremap=off,device-iotlb=on, put the device "
    "behind a pcie-root-port and give it iommu_platform=on,ats=on,disable-legacy=on"
)


class IommuHost(GuardedHost):
    """A device_host.DeviceHost: pages are lent by the translations of the front end's IOMMU."""

    withheld = 1 << VIRTIO_F_INDIRECT_DESC  # a table of its own would be a page more to ask for, in a second round

    def __init__(self, served: ServedDevice, *, allow_lazy: bool = False) -> None:
        """allow_lazy: serve a guest that takes pages back late, too."""
        super().__init__(served)
        self._allow_lazy = allow_lazy
        self._questions: Questions | None = None

    def _lacks(self, ring: Ring) -> str:
        return "" if self._features >> VIRTIO_F_ACCESS_PLATFORM & 1 and ring.desc < SPAN else NO_IOMMU

    def _no_questions(self) -> None:
        questions, self._questions = self._questions, None
        if questions is not None:
            questions.channel.close()
        self._watch()

    def back_channel(self, channel: socket.socket) -> None:
        self._no_questions()
        self._questions = Questions(channel)
        self._watch()

    def translation(self, iova: int, size: int, user: int, access: int, kind: int) -> None:
        if kind == IotlbType.UPDATE:
            if (iova | size | user) % PAGE_SIZE or not size or iova + size > 1 << 64:
                raise FrontEndFault(f"translates {size} bytes at I/O address {iova:#x}, which are not whole pages")
            self._lend(iova, size, user)
        elif kind == IotlbType.INVALIDATE:
            self._invalidate(iova, size)
        else:
            raise FrontEndFault(f"sent a translation of kind {kind}")

    # -- lending -------------------------------------------------------------------------------------------------------

    def _lend(self, iova: int, size: int, user: int) -> None:
        """Open what was asked for of a translation."""
        at = self._regions.file_offset(user, size)
        first, window = iova // PAGE_SIZE, self._window
        wanted = range(first, first + size // PAGE_SIZE)
        pages = [
            page for page in (self._asked if len(wanted) > 1 else wanted) if page in wanted and page in self._asked
        ]
        if not pages or window is None:
            return
        if iova == self._regions.gpa_of(user, size) and self._by_a_system:
            self._tell(PASSES_THROUGH)  # a driver of an operating system: firmware has no IOMMU, and few features
            return
        for page in pages:
            behind = at // PAGE_SIZE + page - first
            if (before := self.grants.entries.get(page)) is not None and before >> SHIFT != behind:
                self._take_back([page])
            self.grants.add(window, page, behind, self._asked[page])

    def _invalidate(self, iova: int, size: int) -> None:
        pages = self.grants.within(iova // PAGE_SIZE, -(-(iova + size) // PAGE_SIZE))
        if size >= WHOLE and self._rings and pages and self._by_a_system:
            self._tell(LAZY)
            self._refusing |= not self._allow_lazy
        self._take_back(pages)
        self._work_off()

    # -- questions of the device ---------------------------------------------------------------------------------------

    def _ask(self, pages: list[tuple[int, bool]]) -> None:
        if self._questions is None:
            self._ready.update(dict.fromkeys((page for page, _ in pages), NEVER))
            return
        if new := [(page, write) for page, write in pages if page not in self._asked]:
            self._asked.update(new)
            self._questions.put(new)

    def _answered(self) -> bool:
        assert self._questions is not None
        answered = self._questions.answers()
        if answered is None:
            self._no_questions()
            self._answer(list(self._asked), NEVER)
            return False
        for page, write in answered:
            if page in self._asked:
                del self._asked[page]
                entry = self.grants.entries.get(page, 0)
                enough = entry & (WRITABLE if write else OPEN)
                if not enough:
                    self.counts.refused += 1
                self._ready[page] = entry if enough else NEVER
        self._flush()
        return False

    def _answer(self, pages: list[int], entry: int) -> None:
        if self._questions is not None:
            self._questions.forget()
        super()._answer(pages, entry)

    def _bury_device(self) -> None:
        if self._questions is not None:
            self._questions.forget()
        super()._bury_device()

    def _watch(self) -> None:
        super()._watch()
        if self._questions is not None:
            self.polled = {**self.polled, self._questions.channel.fileno(): self._answered}
