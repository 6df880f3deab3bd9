"""Stages: the library's own memories, put on trial."""

import ctypes
import os
from contextlib import ExitStack
from signal import Signals

from pagewarden.kernel import door
from pagewarden.kernel.kvm import DEVICE, Kvm
from pagewarden.memory.isolated.messages import MessageKind
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.private import PrivateMemory
from pagewarden.probe import outpost
from pagewarden.probe.outsider import Outsider
from pagewarden.probe.paths import peers
from pagewarden.probe.paths.machine import Copier
from pagewarden.probe.registry import Path
from pagewarden.probe.trial import BEFORE, Cooperating, Evidence, Stage, State, TimedOut
from pagewarden.vocab import PAGE_SIZE, InternalError, PageRange, Refused, Unavailable


class Here(Cooperating):
    """A memory whose host side is the warden's own process. The warden looks through a mapping of its own: what the
    host does to the window must not blind it."""

    def __init__(self, backing: str, size: int) -> None:
        self.memory = PrivateMemory(size, backing)
        self.memory.populate(0, BEFORE * (size // PAGE_SIZE))
        page = size // PAGE_SIZE // 2
        self._pages, self._own = PageRange(page, page + 1), page * PAGE_SIZE
        self._own += door.map_anywhere(size, self.memory.file, 0) if backing == "memfd" else self.memory.guest_address
        super().__init__(self.memory.window.address + page * PAGE_SIZE)

    def share(self) -> None:
        self.memory.share(self._pages)

    def unshare(self) -> None:
        self.memory.unshare(self._pages)

    def put(self, data: bytes) -> None:
        ctypes.memmove(self._own, data, PAGE_SIZE)

    def page(self) -> bytes:
        return ctypes.string_at(self._own, PAGE_SIZE)


class InGuestMemfd(Cooperating):
    """A guest_memfd, whole file private or shared: the bytes go in and come out by a guest on KVM that copies them."""

    def __init__(self, state: State, size: int) -> None:
        if state is State.AGAIN:
            raise Unavailable("guest_memfd converts no page", "needs a kernel with in-place conversion of guest_memfd")
        vm = Kvm().create_vm()
        self.memory = PrivateMemory(size, "guest-memfd", shared=state is State.SHARED, vm=vm.fd)
        self._place = size // PAGE_SIZE // 2 * PAGE_SIZE
        self._guest = Copier(vm, size, self.memory.window.address, self.memory.file)
        super().__init__(self.memory.window.address + self._place)
        try:
            for place in range(0, size, PAGE_SIZE):
                self._guest.write(place, BEFORE)
        except OSError as error:
            raise Unavailable(
                f"a guest cannot fill the guest_memfd ({error})", "no other guest could either"
            ) from error

    def share(self) -> None:
        """The file was made so."""

    def unshare(self) -> None:
        raise AssertionError("not reached: the constructor said so")

    def put(self, data: bytes) -> None:
        self._guest.write(self._place, data)

    def page(self) -> bytes:
        return self._guest.read(self._place, PAGE_SIZE)


class Isolated:
    """A memory whose host side is a process that is not trusted, a new one for each attempt; seconds: for one trial,
    which waits for the host side three times at most."""

    def __init__(self, backing: str, seconds: float, size: int) -> None:
        self._patience = seconds / 3
        self._outsider = Outsider(peers.ACCESSES)
        self.memory = PrivateMemory(size, backing, isolated=True)
        self.memory.private_write(0, BEFORE * (size // PAGE_SIZE))
        page = size // PAGE_SIZE // 2
        self._pages, self._place = PageRange(page, page + 1), page * PAGE_SIZE
        self._host: HostProcess | None = None
        self._lack: Unavailable | None = None
        self._fds = {"outsider": self._outsider.fd, **_open_kvm()}
        self._opened = ExitStack()

    def reset(self) -> None:
        self.memory.unshare(self._pages)
        self.put(BEFORE)

    def share(self) -> None:
        self.memory.share(self._pages)

    def unshare(self) -> None:
        self.memory.unshare(self._pages)

    def put(self, data: bytes) -> None:
        self.memory.private_write(self._place, data)

    def page(self) -> bytes:
        return self.memory.private_read(self._place, PAGE_SIZE)

    def arm(self, path: Path) -> Evidence | None:
        if self._lack is not None:
            raise self._lack
        self._opened.close()
        fds = path.opens(self._opened)
        shared = self.memory.is_shared(self._pages.start)
        if shared:  # the page is opened for a host side that runs: what one finds open at its start has no guard to try
            self.memory.unshare(self._pages)
        try:
            self._host = self._spawn(path, fds)
        except Unavailable as lack:
            self._lack = lack
            raise
        if shared:
            self.memory.share(self._pages)
        return self._heard()

    def _spawn(self, path: Path, fds: tuple[int, ...]) -> HostProcess:
        own = {name: fd for name, fd in self._fds.items() if name != "kvm" or "ioctl" in path.calls}
        return self.memory.spawn(
            outpost.act,
            outpost.Family(path.module),
            path.name,
            path.direction,
            self._place,
            tuple(own),
            self.memory.guest_address + self._place,
            fds=(*own.values(), *fds),
        )

    def use(self, hint: bytes) -> Evidence:
        assert self._host is not None
        self._host.tell(int.from_bytes(hint, "little"))
        return self._heard() or Evidence(error="EPROTO")

    def _heard(self) -> Evidence | None:
        """The host side's next word; evidence ends it, and so do silence and death."""
        host = self._host
        assert host is not None
        try:
            message = host.receive(self._patience)
        except Refused as silence:
            host.kill()
            raise TimedOut(f"no word of the host side in {self._patience:g} s (--timeout)") from silence
        if message is not None and message.kind is MessageKind.REPORT and message.value == outpost.ARMED:
            return None
        status = host.wait(self._patience) if message is None else host.kill()
        if message is None:
            return Evidence(error=Signals(-status).name if status < 0 else f"EXIT {status}")
        if message.kind is not MessageKind.REPORT:
            raise InternalError(f"the host side failed: {message.data.decode(errors='replace')}")
        if message.value == outpost.LACK:
            raise Unavailable(*message.data.decode(errors="replace").split("\0"))
        return outpost.read(message.data)


def _open_kvm() -> dict[str, int]:
    """A descriptor for the host side, as a VMM has one: it may not be allowed to open the device. None without KVM."""
    try:
        return {"kvm": os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)}
    except OSError:
        return {}


BACKINGS = ("memfd", "uffd-window", "uffd-rwp", "memfd-secret", "guest-memfd")
ISOLATED = ("uffd-window", "uffd-rwp")
"""Backings that have an untrusted host side."""


def cooperating(backing: str, state: State, size: int) -> Stage:
    """A fresh memory of so many bytes, ready for a trial in that state; Unavailable."""
    return InGuestMemfd(state, size) if backing == "guest-memfd" else Here(backing, size)
