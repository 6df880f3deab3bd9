"""What the untrusted host side's window does for a device."""

import os

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.memory.isolated.side import HostSide

PIECES = [(page * PAGE_SIZE, PAGE_SIZE) for page in (3, 1, 5, 0)]


def scattered(host: HostSide) -> None:
    """A file into pieces of the window, and back into the file behind it."""
    done = host.pread_from(host.fds[0], 0, PIECES), host.pwrite_to(host.fds[0], 4 * PAGE_SIZE, PIECES)
    host.report(sum(done))


def test_io_of_several_pieces_at_once() -> None:
    memory = PrivateMemory(8 * PAGE_SIZE, isolated=True)
    file, data = os.memfd_create("disk"), os.urandom(4 * PAGE_SIZE)
    os.pwrite(file, data, 0)
    with memory:
        memory.share(PageRange(0, 8))
        host = memory.spawn(scattered, fds=(file,))
        answer = host.receive(30)
        assert answer is not None and answer.value == 8 * PAGE_SIZE, answer
        assert b"".join(memory.private_read(*piece) for piece in PIECES) == data
    assert os.pread(file, 8 * PAGE_SIZE, 4 * PAGE_SIZE) == data
    os.close(file)
