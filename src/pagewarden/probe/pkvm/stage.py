"""A protected VM and its pages, each brought into a state by guest and host, tried, and looked at afterwards."""

import ctypes
import os
import signal
from collections.abc import Callable
from enum import StrEnum

from pagewarden.abi import memory as uapi
from pagewarden.kernel import door
from pagewarden.kernel.kvm import Kvm
from pagewarden.kernel.kvm_arm64 import ProtectedGuest
from pagewarden.probe import raw
from pagewarden.probe.outsider import Outsider
from pagewarden.probe.paths import peers
from pagewarden.probe.paths.dump import CLONE_VM, STACK
from pagewarden.probe.pkvm import guest
from pagewarden.probe.registry import MARK, SAMPLE, Died
from pagewarden.vocab import PAGE_SIZE

BASE = 0x4000_0000
"""gpa of the memslot: the guest's program, then the pages."""
HOST, SECRET, AGAIN = (bytes.fromhex(word * 4) for word in ("4057", "5ec7", "a6a1"))
"""Words that a page is full of: the host's before the guest has it, the guest's first, the guest's after an unshare."""


class PageState(StrEnum):
    """How a page came to be what it is."""

    HOST = "host"  # the guest has not touched it
    PRIVATE = "private"  # the guest has written it: donated
    SHARED = "shared"  # the guest has shared it since
    UNSHARED = "unshared"  # the host has touched it, the guest has unshared and written it since
    POISON = "poison"  # private, then taken back by the host through process_vm_readv(2)


BEFORE = {
    PageState.PRIVATE: PageState.HOST,
    PageState.SHARED: PageState.PRIVATE,
    PageState.UNSHARED: PageState.SHARED,
    PageState.POISON: PageState.PRIVATE,
}
"""The state that each comes from."""


def anonymous(size: int) -> tuple[int, door.Descriptor | None]:
    """(Private memory of this process, no file)."""
    return raw.own_memory(size), None


def file_backed(size: int) -> tuple[int, door.Descriptor | None]:
    """(A memfd mapped shared, the file)."""
    file = door.memfd("pagewarden", size)
    return door.map_anywhere(size, file.fd, 0), file


BACKINGS: dict[str, Callable[[int], tuple[int, door.Descriptor | None]]] = {
    "anonymous": anonymous,
    "memfd": file_backed,
}
"""What the memslot is over: each makes so many bytes."""


class Answered(Exception):
    """A hypercall came to something else than success."""

    def __init__(self, answer: int) -> None:
        super().__init__(ANSWERS.get(answer, f"SMCCC {answer}"))


ANSWERS = {-1: "NOT_SUPPORTED", -2: "NOT_REQUIRED", -3: "INVALID_PARAMETER"}
"""SMCCC_RET_* (include/linux/arm-smccc.h)."""


class VmStage:
    """A VM with so many pages on trial. Its memory is kept from forked children and from core dumps, so that what a way
    does to its own page is not done to the program and to the other pages too."""

    def __init__(self, backing: str, pages: int) -> None:
        self.size = (1 + pages) * PAGE_SIZE
        self._outsider = Outsider(peers.ACCESSES, privileged=True)
        self.outsider = self._outsider.fd
        self.address, self._file = BACKINGS[backing](self.size)
        self.file = self._file.fd if self._file else -1
        for advice in (uapi.MADV_DONTFORK, uapi.MADV_DONTDUMP):
            door.syscall("madvise", self.address, self.size, advice)
        ctypes.memmove(self.address, guest.CODE, len(guest.CODE))
        self.device = Kvm()
        self.guest = ProtectedGuest(self.device, BASE)
        self.guest.set_user_memory_region(0, BASE, self.size, self.address)
        self._stack = raw.own_memory(STACK) + STACK
        self.tell(guest.LOAD, BASE)

    def hva(self, page: int) -> int:
        """Address of a page; they count from 1."""
        return self.address + page * PAGE_SIZE

    def gpa(self, page: int) -> int:
        """The same page, as the guest calls it."""
        return BASE + page * PAGE_SIZE

    def tell(self, what: int, where: int, value: int = 0) -> int:
        """guest.tell."""
        return guest.tell(self.guest, what, where, value)

    def call(self, gpa: int, hypercall: int) -> None:
        """A hypercall of the guest's about a page; Answered unless it succeeds."""
        if answer := ctypes.c_int64(self.tell(guest.CALL, gpa, hypercall)).value:
            raise Answered(answer)

    def fill(self, page: int, word: bytes) -> None:
        """The guest writes the whole page."""
        self.tell(guest.FILL, self.gpa(page), int.from_bytes(word, "little"))

    def enter(self, page: int, state: PageState) -> None:
        """The last step into a state, from the one before it; OSError."""
        if state is PageState.HOST:
            ctypes.memmove(self.hva(page), HOST * (PAGE_SIZE // len(HOST)), PAGE_SIZE)
        elif state is PageState.PRIVATE:
            self.fill(page, SECRET)
        elif state is PageState.SHARED:
            self.call(self.gpa(page), guest.SHARE)
        elif state is PageState.UNSHARED:
            raw.look(self.hva(page))
            self.call(self.gpa(page), guest.UNSHARE)
            self.fill(page, AGAIN)
        else:
            peers.vm_read(os.getpid(), self.hva(page))

    def touched(self, code: tuple[int, int]) -> str:
        """What becomes of a process that runs this code in this memory: "" or the name of the signal that ends it."""
        entry, argument = code
        _, status = os.waitpid(door.twin(entry, self._stack, CLONE_VM | signal.SIGCHLD, argument), 0)
        return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""

    def lives(self) -> bool:
        """Whether the guest still runs its program."""
        try:
            self.tell(guest.LOAD, BASE)
        except OSError:
            return False
        return True

    def mapped(self, page: int) -> bool:
        """Whether anything is mapped where the page was."""
        try:
            door.syscall("mincore", self.hva(page), PAGE_SIZE, ctypes.addressof(ctypes.c_uint8()))
        except OSError:
            return False
        return True

    def load(self, address: int) -> bytes:
        """A load by the CPU; Died."""
        if name := self.touched(door.loads_at(address)):
            raise Died(signal.Signals[name])
        return ctypes.string_at(address, SAMPLE)

    def store(self, address: int) -> None:
        """A store by the CPU; Died."""
        if name := self.touched(door.stores_at(address)):
            raise Died(signal.Signals[name])
        ctypes.memmove(address, MARK, len(MARK))

    def close(self) -> None:
        """End the VM; its memory stays."""
        self.guest.close()
        self.device.close()


def locked() -> int:
    """KiB that this process has locked, as /proc/self/status counts them: pKVM charges what the guest has."""
    with open("/proc/self/status", "rb", buffering=0) as status:
        return int(status.read(1 << 14).partition(b"VmLck:")[2].split(maxsplit=1)[0])
