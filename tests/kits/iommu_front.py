"""A front end with an IOMMU: it answers questions about I/O pages, and takes pages back."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from front_end import BackEndError, FrontEnd
from pagewarden.abi import vhost_user as abi
from pagewarden.abi.vhost_user import FrontRequest, IotlbType, ProtocolFeature
from pagewarden.abi.virtio import VIRTIO_F_ACCESS_PLATFORM
from pagewarden.memory import PrivateMemory
from pagewarden.port import HostView
from pagewarden.virtio.disk import Disk
from served_rig import ServedRig
from virtio_kit import DEFAULT, Rig

PAGE = 4096
FEATURES = DEFAULT | 1 << VIRTIO_F_ACCESS_PLATFORM


class IommuFrontEnd(FrontEnd):
    """mapped: what is behind an I/O page, None for nothing. hold: answers wait until so many questions were put.

    asked: I/O pages and permissions, in their order; updates and invalidates: how many were sent.
    """

    def __init__(self, connection: socket.socket, memory: PrivateMemory, mapped: Callable[[int], int | None]) -> None:
        super().__init__(connection, memory.file, memory.size, FEATURES, 1 << ProtocolFeature.BACKEND_REQ)
        self.mapped, self.hold = mapped, 1
        self.asked: list[tuple[int, int]] = []
        self.updates = self.invalidates = 0
        self._ours, theirs = socket.socketpair()
        self.tell(FrontRequest.SET_BACKEND_REQ_FD, b"", theirs.fileno())
        theirs.close()
        self._thread = threading.Thread(target=self._answer_until_refused)
        self._thread.start()

    def _answer_until_refused(self) -> None:
        with suppress(ConnectionError, BackEndError):  # the back end may end the connection at any message
            self._answer()

    def _answer(self) -> None:
        waiting: list[tuple[int, int]] = []
        while message := self._ours.recv(abi.HEADER.size + abi.IOTLB.size, socket.MSG_WAITALL):
            request, flags, _ = abi.HEADER.unpack_from(message)
            iova, size, _, access, kind = abi.IOTLB.unpack(message[abi.HEADER.size :])
            assert (request, kind, size) == (1, IotlbType.MISS, PAGE) and flags & abi.NEED_REPLY
            self.asked.append((iova // PAGE, access))
            waiting.append((iova, access))
            while waiting and len(self.asked) >= self.hold:
                iova, access = waiting.pop(0)
                page = self.mapped(iova // PAGE)
                if page is not None:
                    row = abi.IOTLB.pack(iova, PAGE, page * PAGE, abi.VHOST_ACCESS_RW, IotlbType.UPDATE)
                    self.tell(FrontRequest.IOTLB_MSG, row)
                    self.updates += 1
                self._ours.sendall(abi.HEADER.pack(1, abi.VERSION | abi.REPLY, 8) + abi.U64.pack(0))

    def take_back(self, iova: int, size: int) -> None:
        """Nothing of it is used when this returns."""
        self.invalidates += 1
        self.tell(FrontRequest.IOTLB_MSG, abi.IOTLB.pack(iova, size, 0, 0, IotlbType.INVALIDATE))

    def close(self) -> None:
        for end in (self._ours, self._socket):
            end.shutdown(socket.SHUT_RDWR)  # an answer that is under way ends, before its descriptor does
        self._thread.join()
        self._ours.close()
        super().close()


class TurnedView:
    """The driver's view by I/O addresses: the pages of the memory, the last first."""

    def __init__(self, view: HostView) -> None:
        self._view, self.size = view, view.size

    def page(self, io_page: int) -> int | None:
        pages = self.size // PAGE
        return pages - 1 - io_page if io_page < pages else None

    def _pieces(self, offset: int, length: int) -> list[tuple[int, int]]:
        found = []
        while length:
            part = min(length, PAGE - offset % PAGE)
            page = self.page(offset // PAGE)
            assert page is not None
            found.append((page * PAGE + offset % PAGE, part))
            offset, length = offset + part, length - part
        return found

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(self._view.read(*piece) for piece in self._pieces(offset, length))

    def write(self, offset: int, data: bytes) -> None:
        for at, length in self._pieces(offset, len(data)):
            self._view.write(at, data[:length])
            data = data[length:]

    def read_into(self, offset: int, target: bytearray) -> None:
        target[:] = self.read(offset, len(target))


class IommuRig(ServedRig):
    """A driver behind an IOMMU that turns the memory round, and the device behind a connection."""

    def __init__(self, memory: PrivateMemory, connection: socket.socket, disk: Disk) -> None:
        self._turned, self._memory = TurnedView(memory.window), memory
        Rig.__init__(self, self._turned, disk, FEATURES, 128, here=False)  # type: ignore[arg-type]
        self.connect(connection)

    def connect(self, connection: socket.socket, *kept: Any) -> None:
        """The device is behind this connection now; its ring is as it was. kept: a file for FrontEnd.keep."""
        self.iommu = IommuFrontEnd(connection, self._memory, self._turned.page)
        self.front = self.iommu
        if kept:
            self.front.keep(*kept)
        self.queue = self.front.start(0, self.rings[0])
