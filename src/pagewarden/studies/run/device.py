"""The block device as the untrusted host side of an isolated memory runs it.

Importing this module loads the compiled code: in the host side that happens before it gives up its rights, after which
it may not be able to read the files that hold it.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from pagewarden.abi import virtio
from pagewarden.abi.confinement import CLONE_FILES
from pagewarden.abi.memory import PR_SET_PDEATHSIG
from pagewarden.kernel.door import prctl, syscall
from pagewarden.memory.isolated.messages import DATA_MAX
from pagewarden.memory.isolated.side import HostSide
from pagewarden.studies.run.host import FEATURES, WatchedDisk
from pagewarden.studies.run.host_error import Errors
from pagewarden.studies.run.warm import warm
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PagewardenError

OUTLIVE = -1
"""Told instead of a queue: try to outlive the warden, and say how many of the ways went through."""
READY, BROKEN = -1, -2
"""What it reports beside the number of requests that a doorbell led to, which goes with the disk's errors, if any."""


def serve_block(host: HostSide, queue: int, ring: tuple[int, int, int, int], resume: bool, read_only: bool) -> None:
    """Serve doorbells until the warden is gone. ring: size, desc, avail, used. resume: another device was at work."""
    errors = Errors()
    device = BlockDevice(host, WatchedDisk(host.fds[0], read_only, errors), queue + 1, ring[0])
    try:
        _set_up(device, queue, Ring(*ring), resume)
        host.report(READY)
        with suppress(EOFError):
            while True:
                told = host.listen()
                host.report(outlive() if told == OUTLIVE else _serve(device, told), errors.packed())
    except PagewardenError as error:
        host.report(BROKEN, str(error).encode()[:DATA_MAX])


WAYS: tuple[Callable[[], object], ...] = (
    os.fork,
    lambda: syscall("unshare", CLONE_FILES),
    lambda: prctl(PR_SET_PDEATHSIG, 0),
    lambda: os.kill(os.getppid(), signal.SIGKILL),
    os.setsid,
)
"""Ways to leave a process behind, or to be one that is left: each goes through for an ordinary process."""


def outlive() -> int:
    """Try them all; how many went through. What a fork leaves behind ends at once: that it could be made is enough."""
    went, me = 0, os.getpid()
    for way in WAYS:
        with suppress(OSError):
            way()
            went += 1
        if os.getpid() != me:
            os._exit(0)
    return went


def _set_up(device: BlockDevice, queue: int, ring: Ring, resume: bool) -> None:
    if resume:
        device.resume(FEATURES, {queue: ring})
        return
    device.accept(FEATURES)
    device.write_status(virtio.ACKNOWLEDGE | virtio.DRIVER | virtio.FEATURES_OK)
    device.set_queue(queue, ring)
    device.write_status(virtio.DRIVER_OK)


def _serve(device: BlockDevice, queue: int) -> int:
    completed, more = 0, True
    while more:
        done = device.process(queue)
        completed, more = completed + done.completed, done.more
    return completed


warm()
