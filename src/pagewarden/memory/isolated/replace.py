"""Replacing pages: their bytes move onto fresh pages, and at no moment could they be lost.

Whoever uses a page through the guest's view waits meanwhile: the run is write-protected, its bytes are saved aside, the
hole is punched, which unmaps it everywhere, and UFFDIO_COPY puts whole new pages in place.

A user that waits must not hold the interpreter's lock (KVM_RUN and emulators do not; private_read and private_write
take turns with conversions instead). A user inside a system call waits only where this process may handle kernel
faults (root, CAP_SYS_PTRACE, or sysctl vm.unprivileged_userfaultfd=1); elsewhere it gets EFAULT, KVM_RUN included: stop
the vCPUs in a listener there.
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from pagewarden.abi import uffd
from pagewarden.kernel.door import punch_hole
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import PAGE_SIZE, Unavailable

WAIT = uffd.UFFDIO_REGISTER_MODE_MISSING | uffd.UFFDIO_REGISTER_MODE_WP
WAIT_FEATURES = uffd.UFFD_FEATURE_MISSING_SHMEM | uffd.UFFD_FEATURE_WP_HUGETLBFS_SHMEM
STEP = 1 << 20
"""Bytes replaced at once: what the warden holds a second copy of."""
PATIENCE = 1000
"""Tries, a millisecond apart, at what the kernel puts off."""
PUT_OFF = (errno.EAGAIN, errno.EINTR)
NEEDED = (*PUT_OFF, errno.ENOMEM)
"""What is waited for where there is no way back."""


class GuestView(Region):
    """The guest's and the warden's view of the memory, every byte in its place when it is looked at from here."""

    replacing: "Replacing | None" = None

    @property
    def memory(self) -> memoryview:
        """The mapping; what an interrupted replacement has left undone is done first. Its owner serializes."""
        if self.replacing is not None and self.replacing.pending and not self.replacing.at_work:
            self.replacing.settle()
        return self._view

    @memory.setter
    def memory(self, view: memoryview) -> None:
        self._view = view


class Replacing:
    """Replaces runs of one memory's pages, at most STEP bytes at a time. Its owner serializes everything.

    What it is about stands in `pending` and `_saved` before it is done, so that whatever interrupts it, an error of the
    kernel or an exception of a signal handler, `settle` can finish it: what was saved is put back where there is a
    hole, and where there is a page that page is right.
    """

    def __init__(self, file: int, address: int, size: int) -> None:
        """address: of the guest's view; size: bytes."""
        self._file, self._address, self._size = file, address, size
        self._aside = Region(min(STEP, size))
        self._aside.keep_to_this_process()
        self._waiting, self._lent = _waiting_room(), False
        self._lock: AbstractContextManager[object] = nullcontext()
        self.pending: tuple[int, int] | None = None
        """The run, offset and length, whose users may be waiting."""
        self._saved = False
        """Are the run's bytes aside?"""
        self.at_work = False
        """Is `replace` under way, in whichever thread?"""

    def lend(self, waiting: Userfault, lock: AbstractContextManager[object]) -> None:
        """The guest's view has a userfaultfd for good, registered for WAIT: a mapping has one (fs/userfaultfd.c,
        userfaultfd_register: EBUSY). It stays its owner's, who answers under the lock that a page which is there is
        there."""
        self._waiting.close()
        self._waiting, self._lent, self._lock = waiting, True, lock

    def replace(self, offset: int, length: int) -> None:
        """Put the bytes on fresh pages; OSError, and the bytes are there all the same, some of them perhaps already on
        fresh pages."""
        with self._lock:
            self._replace(offset, length)

    def _replace(self, offset: int, length: int) -> None:
        self.settle()
        if self._waiting.fd < 0 and not self._lent:
            self._waiting = _waiting_room(known=True)
        try:
            self.at_work = True
            self.pending = offset, length
            address = self._address + offset
            if not self._lent:
                _patiently(lambda: self._waiting.register(address, length, WAIT))
            _patiently(lambda: self._waiting.write_protect(address, length))
            if self._next_data(offset) >= offset + length:  # nobody has touched it, and whoever does now waits
                return
            self._save(offset, length)
            self._saved = True
            _patiently(lambda: punch_hole(self._file, offset, length))
        finally:
            try:
                self._settle_whatever_comes()
            finally:
                self.at_work = False

    def _save(self, offset: int, length: int) -> None:
        """Not through the guest's view: at a hole we would wait too."""
        done = 0
        while done < length:
            got = os.preadv(self._file, [self._aside.memory[done:length]], offset + done)
            if not got:
                raise OSError(errno.EIO, "the memory's file gave fewer bytes than it has")
            done += got

    def _settle_whatever_comes(self) -> None:
        """Settle, and only then let an exception of a signal handler through."""
        interrupted: BaseException | None = None
        for _ in range(PATIENCE):
            try:
                self.settle()
                break
            except OSError:
                raise
            except BaseException as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def settle(self) -> None:
        """Finish what was begun: every byte is in its place and nobody waits. OSError when the kernel has no memory for
        that even now; the bytes are kept, and it can be tried again."""
        with self._lock:
            if self.pending is None:
                return
            offset, length = self.pending
            if self._saved:
                self._put_back(offset, length)
                self._saved = False
            self._wake(offset, length)
            self.pending = None

    def _put_back(self, offset: int, length: int) -> None:
        address, source, done = self._address + offset, self._aside.address, 0
        while done < length:
            try:
                done += self._waiting.copy(address + done, source + done, length - done)
            except OSError:  # EEXIST as well: it is looked at, not believed
                _patiently(lambda done=done: self._write_back(offset + done, done), NEEDED)  # type: ignore[misc]
                done += PAGE_SIZE

    def _write_back(self, offset: int, at: int) -> None:
        """A page by way of the file, where there is a hole. Nobody else fills that: its users wait."""
        if self._next_data(offset) == offset:
            return
        if os.pwrite(self._file, self._aside.memory[at : at + PAGE_SIZE], offset) != PAGE_SIZE:
            raise OSError(errno.ENOMEM, "a page of the memory's file could not be written whole")

    def _next_data(self, offset: int) -> int:
        """Where the first page from here on is that the file holds."""
        try:
            return os.lseek(self._file, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # a hole up to the end
                raise
            return self._size

    def _wake(self, offset: int, length: int) -> None:
        if self._lent:
            _patiently(lambda: self._waiting.write_protect(self._address + offset, length, on=False), NEEDED)
            return
        try:
            _patiently(lambda: self._waiting.unregister(self._address + offset, length), NEEDED)
        except OSError:  # closing the descriptor ends every registration, and cannot fail
            self._waiting.close()
            with suppress(OSError):
                self._waiting = _waiting_room(known=True)

    def forked(self) -> None:
        """In a forked child: its copy of the descriptor."""
        if not self._lent:
            self._waiting.close()

    def close(self) -> None:
        """Give the descriptor and the second copy back."""
        self.forked()
        self._aside.close()


def _patiently(act: Callable[[], object], codes: tuple[int, ...] = PUT_OFF) -> None:
    """Do it; again where the kernel puts it off with one of the codes, up to PATIENCE times. OSError."""
    tries = 0
    while True:
        try:
            act()
            return
        except OSError as error:
            tries += 1
            if error.errno not in codes or tries > PATIENCE:
                raise
            time.sleep(0.001)


def _waiting_room(known: bool = False) -> Userfault:
    """The userfaultfd that makes users of a page wait; without privileges those inside a syscall fail instead.
    Unavailable, or OSError where one was to be had before (known)."""
    try:
        made = Userfault(WAIT_FEATURES, user_mode_only=False)
    except Unavailable:
        try:
            made = Userfault(WAIT_FEATURES)
        except Unavailable as lacking:
            if known:
                raise OSError(errno.EMFILE, str(lacking)) from lacking
            raise
    made.lift()
    return made
