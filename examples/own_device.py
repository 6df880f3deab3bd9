"""A device of one's own in a process that nobody trusts: it has the window, no fd of the memory, and no rights.

python examples/own_device.py
"""

import zlib

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory
from pagewarden.memory.isolated.side import HostSide


def checksum(host: HostSide) -> None:
    """The device: asked for a page, it reports the page's CRC, or that it may not see it."""
    while (page := host.listen()) >= 0:
        try:
            host.report(0, zlib.crc32(host.read(page * PAGE_SIZE, PAGE_SIZE)).to_bytes(4, "little"))
        except PrivateAccess:
            host.report(1)


def main() -> None:
    """The guest's side: it shares a page, asks, and takes the page back."""
    with PrivateMemory(16 * PAGE_SIZE, isolated=True) as mem:
        mem.populate(0, b"x" * 2 * PAGE_SIZE)
        device = mem.spawn(checksum)
        mem.share(PageRange(0, 1))
        for page in (0, 1):
            device.tell(page)
            answer = device.receive(20)
            assert answer is not None
            print(f"page {page}: {f'CRC {answer.data.hex()}' if not answer.value else 'refused, it is private'}")
        device.tell(-1)
        print(f"the device ended with status {device.wait(20)}")


if __name__ == "__main__":
    import own_device  # the device's process imports its function by the name of this file

    own_device.main()
