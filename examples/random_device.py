"""A device of one's own for QEMU: random numbers, from a process that sees what the guest lends it and nothing else.

python examples/random_device.py random.sock
"""

import os
import sys
from functools import partial
from pathlib import Path

from pagewarden.memory.isolated.side import HostSide
from pagewarden.vhost.confined import serve_rings
from pagewarden.vhost.kinds import DeviceKind
from pagewarden.vhost.serve import serve_device
from pagewarden.virtio.transport import PlainDevice


class RandomDevice(PlainDevice):
    """The entropy device (virtio 1.2, 5.4): no features, no configuration, and buffers that it fills."""

    def answer(self, queue: int, given: bytes, room: int) -> bytes:
        """Random bytes, as many as there is room for, a page of them at most."""
        return os.urandom(min(room, 4096))


def in_its_process(host: HostSide, channel: int, counters: int, probe: bool) -> None:
    """The function that the device's process runs."""
    serve_rings(host, channel, counters, probe, RandomDevice)


def main() -> None:
    """Serve one QEMU: -chardev socket,id=c,path=random.sock -device vhost-user-rng-pci,chardev=c... (docs/serve.md)."""
    kind = DeviceKind(lambda view, size: RandomDevice(view, queue_size=size), in_its_process)
    say = partial(print, file=sys.stderr, flush=True)
    done = serve_device(kind, Path(sys.argv[1]), None, "random numbers", probe=True, say=say)
    print(f"{done.requests} requests, {done.carried} bytes, {done.max_open} pages open at most, {done.refused} refused")
    print(f"{done.probed} closed pages tried, of which {done.violations} answered")


if __name__ == "__main__":
    import random_device  # the device's process imports its function by the name of this file

    random_device.main()
