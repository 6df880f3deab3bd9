"""One front end: what it asks is checked against what was said before, then done. One method for each request."""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pagewarden.abi import vhost_user as abi
from pagewarden.abi.vhost_user import FrontRequest, ProtocolFeature
from pagewarden.abi.virtio import VIRTIO_F_ACCESS_PLATFORM
from pagewarden.kernel.door import Descriptor
from pagewarden.vhost.device_host import DeviceHost
from pagewarden.vhost.inflight import InflightFile, inflight_file
from pagewarden.vhost.messages import SHAPES, FrontEndFault, FrontMessage, answer, receive
from pagewarden.vhost.questions import channel_of
from pagewarden.vhost.regions import GuestRegions, MemoryRegion
from pagewarden.vhost.vrings import Vring
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import Refused

_PROTOCOL = (
    ProtocolFeature.MQ,
    ProtocolFeature.REPLY_ACK,
    ProtocolFeature.BACKEND_REQ,
    ProtocolFeature.CONFIG,
    ProtocolFeature.INFLIGHT_SHMFD,
    ProtocolFeature.RESET_DEVICE,
    ProtocolFeature.CONFIGURE_MEM_SLOTS,
    ProtocolFeature.STATUS,
)


class FrontSession:
    """A connection and all that came over it. Whoever owns it calls `serve` when the connection can be read."""

    def __init__(self, connection: socket.socket, host: DeviceHost, memory: GuestRegions) -> None:
        self.connection, self.host, self.memory = connection, host, memory
        self.vrings = [Vring(index) for index in range(host.queues)]
        self.features, self.protocol, self.status = 0, 0, 0
        self.refused = ""
        self._offered = host.offered | 1 << abi.VHOST_USER_F_PROTOCOL_FEATURES
        self._protocol_offered = sum(1 << bit for bit in _PROTOCOL)
        self._acts: dict[FrontRequest, Callable[[FrontMessage], bytes | None]] = {
            request: getattr(self, f"_{request.name.lower()}")
            for request in FrontRequest
            if hasattr(self, f"_{request.name.lower()}")
        }
        self._enclosed: list[Descriptor] = []
        """What goes with the answer to the message under way."""

    def serve(self) -> bool:
        """Read one message and do it; False at the end of the connection. A front end that asked for an acknowledgement
        is told that its message was refused, and `refused` says why; FrontEndFault where it did not: it would go on as
        if all were well."""
        self.refused = ""
        message = receive(self.connection)
        if message is None:
            return False
        acknowledge = message.need_reply and bool(self.protocol >> ProtocolFeature.REPLY_ACK & 1)
        try:
            reply = self._acts[message.request](message)
            if reply is None and acknowledge:
                reply = abi.U64.pack(0)
            if reply is not None:
                answer(self.connection, message.request, reply, *(file.fd for file in self._enclosed))
        except (FrontEndFault, Refused) as fault:
            if not acknowledge or SHAPES[message.request].answered:
                raise
            self.refused = str(fault)
            answer(self.connection, message.request, abi.U64.pack(errno.EINVAL))
        finally:
            message.close()
            while self._enclosed:
                self._enclosed.pop().close()
        return True

    def close(self) -> None:
        """Stop all rings, and forget what the front end said."""
        for vring in self.vrings:
            self._stop(vring)
            vring.close()
        self._drop(*self.memory.parts)
        self.host.forget()
        self.connection.close()

    # -- features and configuration ------------------------------------------------------------------------------------

    def _get_features(self, message: FrontMessage) -> bytes:
        return abi.U64.pack(self._offered)

    def _set_features(self, message: FrontMessage) -> None:
        (features,) = abi.U64.unpack(message.payload)
        if features & ~self._offered:
            raise FrontEndFault(f"chose features {features & ~self._offered:#x}, which were not offered")
        if any(vring.started for vring in self.vrings):
            if features != self.features:
                raise FrontEndFault("changes features while rings run")
            return
        self.host.accept(features & ~(1 << abi.VHOST_USER_F_PROTOCOL_FEATURES))
        self.features = features
        if not features >> abi.VHOST_USER_F_PROTOCOL_FEATURES & 1:
            for vring in self.vrings:
                vring.enabled = True

    def _get_protocol_features(self, message: FrontMessage) -> bytes:
        return abi.U64.pack(self._protocol_offered)

    def _set_protocol_features(self, message: FrontMessage) -> None:
        (features,) = abi.U64.unpack(message.payload)
        if features & ~self._protocol_offered:
            raise FrontEndFault(f"chose protocol features {features:#x}, some of which were not offered")
        self.protocol = features

    def _get_queue_num(self, message: FrontMessage) -> bytes:
        return abi.U64.pack(self.host.queues)

    def _set_owner(self, message: FrontMessage) -> None:
        """Nothing to be done: a connection is its owner's."""

    def _reset_owner(self, message: FrontMessage) -> None:
        """Deprecated: rings are stopped, as GET_VRING_BASE does."""
        self._reset_device(message)

    def _reset_device(self, message: FrontMessage) -> None:
        for vring in self.vrings:
            self._stop(vring)
            vring.enabled = False
        self.status = 0

    def _get_config(self, message: FrontMessage) -> bytes:
        offset, size, _ = abi.CONFIG_HEAD.unpack_from(message.payload)
        if abi.CONFIG_HEAD.size + size != len(message.payload) or offset + size > abi.CONFIG_MAX:
            raise FrontEndFault(f"asked for {size} bytes of configuration at {offset} in {len(message.payload)} bytes")
        return message.payload[: abi.CONFIG_HEAD.size] + self.host.read_config(offset, size)

    def _set_config(self, message: FrontMessage) -> None:
        raise FrontEndFault("writes to the configuration, of which nothing can be changed")

    def _get_status(self, message: FrontMessage) -> bytes:
        return abi.U64.pack(self.status)

    def _set_status(self, message: FrontMessage) -> None:
        (status,) = abi.U64.unpack(message.payload)
        if status > 0xFF:
            raise FrontEndFault(f"set status {status:#x}")
        if status == 0:
            self._reset_device(message)
        self.status = status

    # -- memory --------------------------------------------------------------------------------------------------------

    def _set_mem_table(self, message: FrontMessage) -> None:
        count, _ = abi.TABLE_HEAD.unpack_from(message.payload)
        rows = list(abi.REGION.iter_unpack(message.payload[abi.TABLE_HEAD.size :]))
        if not count == len(rows) == len(message.fds):
            raise FrontEndFault(f"described {count} regions in {len(rows)} rows with {len(message.fds)} descriptors")
        described = [MemoryRegion(gpa, size, user, offset) for gpa, size, user, offset in rows]
        if len(set(described)) != count:
            raise FrontEndFault("described a region twice")
        self.memory.check(dict(zip(described, message.fds, strict=True)))
        with self._still_rings():
            self._drop(*self.memory.parts)
            for part in described:
                self._add(part, message)

    @contextmanager
    def _still_rings(self) -> Iterator[None]:
        """Rings that run stand still meanwhile."""
        running = [vring for vring in self.vrings if vring.started]
        for vring in running:
            self._stop(vring)
        yield
        for vring in running:
            self._start(vring)

    def _drop(self, *parts: MemoryRegion) -> None:
        for part in parts:
            self.host.displace(part)
            self.memory.remove(part)

    def _add(self, part: MemoryRegion, message: FrontMessage) -> None:
        fd = message.take_fd()
        assert fd is not None
        self.memory.add(part, fd)
        self.host.place(part, fd)

    def _get_max_mem_slots(self, message: FrontMessage) -> bytes:
        return abi.U64.pack(abi.MEMORY_SLOTS)

    def _add_mem_reg(self, message: FrontMessage) -> None:
        _, gpa, size, user, offset = abi.SINGLE_REGION.unpack(message.payload)
        part = MemoryRegion(gpa, size, user, offset)
        if part in self.memory.parts:
            raise FrontEndFault(f"added the region at gpa {gpa:#x} twice")
        self.memory.check({**self.memory.parts, part: message.fds[0]})
        self._add(part, message)

    def _rem_mem_reg(self, message: FrontMessage) -> None:
        _, gpa, size, user, _ = abi.SINGLE_REGION.unpack(message.payload)
        part = self.memory.found(gpa, user, size)
        with self._still_rings():
            self._drop(part)

    # -- rings ---------------------------------------------------------------------------------------------------------

    def _vring(self, index: int) -> Vring:
        if index >= len(self.vrings):
            raise FrontEndFault(f"named ring {index} of {len(self.vrings)}")
        return self.vrings[index]

    def _still(self, index: int) -> Vring:
        """A ring that does not run."""
        vring = self._vring(index)
        if vring.started:
            raise FrontEndFault(f"changes ring {index} while it runs")
        return vring

    def _set_vring_num(self, message: FrontMessage) -> None:
        index, size = abi.VRING_STATE.unpack(message.payload)
        self._still(index).set_size(size, self.host.queue_size)

    def _set_vring_addr(self, message: FrontMessage) -> None:
        index, flags, desc, used, avail, _ = abi.VRING_ADDR.unpack(message.payload)
        if flags:
            raise FrontEndFault(f"wants ring {index} logged, which was not offered")
        vring = self._vring(index)
        if vring.started and vring.places == (desc, avail, used):
            return  # said again when the memory changed
        self._still(index).set_places(desc, avail, used)

    def _set_vring_base(self, message: FrontMessage) -> None:
        index, base = abi.VRING_STATE.unpack(message.payload)
        if base > 0xFFFF:
            raise FrontEndFault(f"lets ring {index} begin at {base}")
        self._still(index).base = base

    def _get_vring_base(self, message: FrontMessage) -> bytes:
        index, _ = abi.VRING_STATE.unpack(message.payload)
        vring = self._vring(index)
        self._stop(vring)
        vring.set_event("kick", None)
        return abi.VRING_STATE.pack(index, vring.base)

    def _event(self, message: FrontMessage, which: str) -> Vring:
        (number,) = abi.U64.unpack(message.payload)
        if number & ~(abi.VRING_INDEX_MASK | abi.VRING_NOFD) or bool(number & abi.VRING_NOFD) == bool(message.fds):
            raise FrontEndFault(f"named an eventfd by {number:#x} and sent {len(message.fds)}")
        vring = self._vring(number & abi.VRING_INDEX_MASK)
        restart = vring.started and which == "kick"
        if restart:
            self._stop(vring)
        vring.set_event(which, message.take_fd())
        if vring.started and which == "call":
            self.host.call_changed(vring)
        return vring

    def _set_vring_kick(self, message: FrontMessage) -> None:
        self._start(self._event(message, "kick"))

    def _set_vring_call(self, message: FrontMessage) -> None:
        self._event(message, "call")

    def _set_vring_err(self, message: FrontMessage) -> None:
        self._event(message, "error")

    def _set_vring_enable(self, message: FrontMessage) -> None:
        index, on = abi.VRING_STATE.unpack(message.payload)
        if on > 1 or not self.features >> abi.VHOST_USER_F_PROTOCOL_FEATURES & 1:
            raise FrontEndFault(f"enables ring {index} by {on}, with features {self.features:#x}")
        vring = self._vring(index)
        vring.enabled = bool(on)
        if on:
            self._start(vring)
        else:
            self._stop(vring)

    def _start(self, vring: Vring) -> None:
        if vring.started or not vring.ready:
            return
        assert vring.places is not None
        ring = Ring(vring.size, *vring.places)
        if not self.features >> VIRTIO_F_ACCESS_PLATFORM & 1:
            ring = Ring(ring.size, *(self.memory.gpa_of(*part) for part in ring.parts))
        self.host.start(vring, ring)
        vring.started = True

    def _stop(self, vring: Vring) -> None:
        if vring.started:
            vring.base = self.host.stop(vring.index)
            vring.started = False

    # -- what only some devices have -----------------------------------------------------------------------------------

    def _set_backend_req_fd(self, message: FrontMessage) -> None:
        if not self.protocol >> ProtocolFeature.BACKEND_REQ & 1:
            raise FrontEndFault("sent a channel for questions, which was not agreed upon")
        self.host.back_channel(channel_of(message))

    def _iotlb_msg(self, message: FrontMessage) -> None:
        iova, size, user, access, kind = abi.IOTLB.unpack(message.payload)
        self.host.translation(iova, size, user, access, kind)

    def _get_inflight_fd(self, message: FrontMessage) -> bytes:
        _, _, queues, size = abi.INFLIGHT.unpack(message.payload)
        if not 0 < queues <= self.host.queues or not 0 < size <= self.host.queue_size:
            raise FrontEndFault(f"wants to keep what is in flight of {queues} rings of {size} entries")
        file, length = inflight_file(queues, size)
        self._enclosed.append(file)
        return abi.INFLIGHT.pack(length, 0, queues, size)

    def _set_inflight_fd(self, message: FrontMessage) -> None:
        length, offset, queues, size = abi.INFLIGHT.unpack(message.payload)
        if not 0 < queues <= self.host.queues or not 0 < size <= self.host.queue_size or offset or not length:
            raise FrontEndFault(f"keeps {length} bytes of what is in flight of {queues} rings of {size} entries")
        fd = message.take_fd()
        assert fd is not None
        self.host.keep(InflightFile(Descriptor(fd), queues, size, length))
