"""A memory's pages go to fresh frames, or to another memory file, under a guest that runs: its addresses stay."""

import errno
import os
from contextlib import ExitStack

from pagewarden.abi import memory as uapi
from pagewarden.abi import uffd
from pagewarden.kernel.door import Descriptor, memfd, syscall
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory.backings.uffd_window import UffdWindow
from pagewarden.memory.conversions import runs_of
from pagewarden.memory.leaving import data_runs, frozen, scrub
from pagewarden.memory.private import PrivateMemory
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused, Unavailable, UserMistake

_WP = uffd.UFFD_FEATURE_WP_HUGETLBFS_SHMEM


def migrate(memory: PrivateMemory, file: int | None = None) -> None:
    """All pages lie in fresh frames when this returns, the old ones are zeroes and given back: those of a new memory
    file, or of `file`, an empty one of tmpfs with at least as many bytes (it may be closed afterwards). Which pages are
    shared, what they hold, every address and the number of `memory.file` stay.

    Listeners are told of all pages, before and afterwards: their frames are others then. Meanwhile the guest reads, and
    waits where it writes (about as long as it takes to copy its memory); conversions and accessors of the window wait.
    Python code must not write to `guest_address` itself, nor anybody load from the window but by its accessors, or
    write shared pages by the file without a hold. For a cooperating uffd-window. Refused, and nothing has changed:
    EBUSY by page and holder, or where another userfaultfd has the guest's view (of a KeptMemory, swap_out and prefetch
    give fresh frames); as a listener refuses; the kernel's errno (ENOMEM, ENOSPC). UserMistake, Unavailable.
    """
    backing = memory._backing
    if not isinstance(backing, UffdWindow) or backing.name != "uffd-window" or backing._bare:
        raise Unavailable(f"{memory.backing} memory does not migrate", "use uffd-window, with pages private at first")
    with ExitStack() as opened:
        try:
            target = memfd("pagewarden", memory.size) if file is None else Descriptor(os.dup(file))
            opened.callback(target.close)
            _fit(target.fd, memory.size)
            shared = runs_of(opened.enter_context(frozen(memory)), 0, memory._pages, 1)
            whole = [PageRange(0, memory._pages)]
            memory._consumers.around(whole, [], lambda: _change_file(memory, backing, target.fd, shared, opened))
        except OSError as error:
            raise Refused(error.errno or errno.EIO, f"the memory stays where it is: {error.strerror}") from error


def _fit(fd: int, size: int) -> None:
    about = os.fstat(fd)
    if about.st_size < size or about.st_blocks:
        raise UserMistake(f"a memory of {size} bytes goes to an empty file of that size: ftruncate(2) a new one")


def _change_file(
    memory: PrivateMemory, backing: UffdWindow, target: int, shared: list[tuple[int, int]], opened: ExitStack
) -> None:
    """One step decides: the one that puts the new mapping in the place of the old. Until then all goes back."""
    guest = backing.guest
    fault = _writers_wait(guest)
    opened.callback(fault.close)  # they go on, whatever comes
    fresh = Region(memory.size)
    opened.callback(fresh.close)
    fresh.place(target)
    fresh.keep_to_this_process()
    if backing._locked:
        fresh.lock_when_touched()
    try:
        _window_over(backing, target)  # before the copy: the host writes shared pages
        for start, end in data_runs(memory):
            _copied(memory.file, fresh, start, end)
        flags = uapi.MREMAP_MAYMOVE | uapi.MREMAP_FIXED | uapi.MREMAP_DONTUNMAP
        syscall("mremap", fresh.address, memory.size, memory.size, flags, guest.address)
    except OSError:
        _window_over(backing, memory.file)
        _open(backing, shared)
        raise
    fault.wake(guest.address, memory.size)
    old = Descriptor(os.dup(memory.file))
    os.dup2(target, memory.file, inheritable=False)
    _open(backing, shared)
    with old:
        scrub(old.fd, memory.size)


def _writers_wait(guest: Region) -> Userfault:
    try:
        fault = Userfault(_WP, user_mode_only=False)  # KVM writes by the kernel
    except Unavailable:
        fault = Userfault(_WP)
    try:
        fault.register(guest.address, guest.size, uffd.UFFDIO_REGISTER_MODE_WP)
        fault.write_protect(guest.address, guest.size)
    except BaseException:
        fault.close()
        raise
    return fault


def _copied(source: int, target: Region, start: int, end: int) -> None:
    while start < end:
        done = os.preadv(source, [target.memory[start:end]], start)
        if not done:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        start += done


def _window_over(backing: UffdWindow, file: int) -> None:
    """The host's view of this file, guarded, nothing open: it answers nobody in between."""
    window = backing.window
    window.place(file, uapi.PROT_NONE)
    backing.guard.register(window.address, window.size, backing.modes)
    window.keep_to_this_process()
    window.protect(uapi.PROT_READ | uapi.PROT_WRITE, 0, window.size)


def _open(backing: UffdWindow, shared: list[tuple[int, int]]) -> None:
    for start, stop in shared:
        backing.share(start * PAGE_SIZE, (stop - start) * PAGE_SIZE)
