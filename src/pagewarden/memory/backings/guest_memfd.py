"""KVM's guest_memfd (virt/kvm/guest_memfd.c): whole file private or whole file shared, as flags at creation say."""

import ctypes
import errno

from pagewarden.abi import kvm
from pagewarden.kernel.door import Descriptor, ioctl, ioctl_opened
from pagewarden.kernel.kvm import Kvm
from pagewarden.kernel.region import Region
from pagewarden.memory.backings.protocol import FileBacked, Tariff, Wanted, backing
from pagewarden.vocab import Event, Unavailable, UserMistake


def create_vm() -> Descriptor:
    """A new virtual machine; Unavailable without KVM."""
    with Kvm() as device:
        return device.create_vm_fd()


def flags_offered(vm: int) -> int:
    """The GUEST_MEMFD_FLAG bits that this VM takes; Unavailable without guest_memfd."""
    if not ioctl(vm, kvm.KVM_CHECK_EXTENSION, kvm.KVM_CAP_GUEST_MEMFD):
        raise Unavailable("this KVM has no guest_memfd", "needs Linux 6.8 with CONFIG_KVM_GUEST_MEMFD")
    return ioctl(vm, kvm.KVM_CHECK_EXTENSION, kvm.KVM_CAP_GUEST_MEMFD_FLAGS)


def create(vm: int, size: int, flags: int) -> Descriptor:
    """KVM_CREATE_GUEST_MEMFD: the memory; OSError."""
    return ioctl_opened(vm, kvm.KVM_CREATE_GUEST_MEMFD, ctypes.byref(kvm.kvm_create_guest_memfd(size, flags)))


@backing(
    "guest-memfd",
    10,
    {},  # converts no page: only who asks for it gets it
    stops="every access of this machine's user space and kernel to the pages of a private file",
    leaves="a file that is shared is open as a whole",
)
class GuestMemfd(FileBacked):
    """A guest_memfd with its VM (its own one unless `vm` is given, which then stays the caller's).

    Private: nobody but a guest reaches it, so it cannot be populated, and the window, mapped where the kernel allows
    that, answers no touch (SIGBUS). Shared: it is ordinary memory. This kernel converts no page of it.
    """

    name = "guest-memfd"
    whole_file = True
    idle_unshare = False
    sharing = unsharing = Tariff()
    punching = Tariff({}, {Event.TLBI: 1})
    compiled = single = None

    def __init__(self, wanted: Wanted) -> None:
        size, shared, given = wanted
        self._shared = shared
        super().__init__()
        if given is None:
            self.keep(create_vm())
        self.vm = self.file if given is None else given
        try:
            offered = flags_offered(self.vm)
        except OSError as error:
            if given is None or error.errno not in (errno.EBADF, errno.ENOTTY):
                raise
            raise UserMistake(f"vm={self.vm} is no KVM VM's descriptor ({error.strerror})") from error
        flags = kvm.GUEST_MEMFD_FLAG_MMAP | (kvm.GUEST_MEMFD_FLAG_INIT_SHARED if shared else 0)
        if shared and flags & ~offered:
            raise Unavailable("guest_memfd cannot be shared on this kernel", "needs Linux 6.18 (INIT_SHARED)")
        self.keep(create(self.vm, size, flags & offered))
        self.window = self.own(Region(size))
        self.guest = self.window if shared else self.own(Region(size))
        self.guest.bar()
        if offered & kvm.GUEST_MEMFD_FLAG_MMAP:
            self.window.place(self.file)
            self.window.keep_to_this_process()
        else:
            self.window.bar()

    def share(self, offset: int, length: int) -> None:
        self._keep(True)

    def unshare(self, offset: int, length: int) -> None:
        self._keep(False)

    def _keep(self, shared: bool) -> None:
        if shared != self._shared:
            raise OSError(errno.EOPNOTSUPP, "this kernel's guest_memfd is private or shared as a whole file")
