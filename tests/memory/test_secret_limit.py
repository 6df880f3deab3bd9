"""memfd_secret under RLIMIT_MEMLOCK: what cannot be had is said when the memory is made, never by a signal later."""

import os
import resource
from collections.abc import Iterator

import pytest

from live import require
from pagewarden.kernel import door
from pagewarden.kernel.region import Region
from pagewarden.memory import PrivateMemory, Unavailable

MIB = 1 << 20


@pytest.fixture
def limited() -> Iterator[None]:
    """At most 1 MiB may be locked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))


def made(size: int) -> str:
    """What a new memory of that size says of itself, written and read; or why there is none."""
    try:
        with PrivateMemory(size, "memfd-secret") as memory:
            memory.populate(0, b"x" * size)
            return "made" if memory.private_read(size - 1, 1) == b"x" else "wrong bytes"
    except Unavailable as lack:
        return str(lack)


@pytest.mark.usefixtures("limited")
def test_more_than_the_limit_is_made_whole_or_refused_by_its_name() -> None:
    """Whether root is bound by it depends on the kernel: either is right, dying of SIGBUS is not."""
    said = made(4 * MIB)
    require("CONFIG_SECRETMEM" not in said, said)
    assert said == "made" or "RLIMIT_MEMLOCK is 1024 KiB" in said


@pytest.mark.usefixtures("limited")
def test_an_ordinary_user_is_told_of_the_limit() -> None:
    require("CONFIG_SECRETMEM" not in made(4096), "no memfd_secret")
    require(os.geteuid() == 0, "already an ordinary user")
    receive, transmit = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(transmit, made(4 * MIB).encode())
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    os.close(transmit)
    said = os.read(receive, 4096).decode()
    os.close(receive)
    assert status == 0 and "RLIMIT_MEMLOCK is 1024 KiB" in said, "no signal, and the limit named"


def test_pages_that_cannot_be_had_are_an_error_and_no_signal() -> None:
    """A mapping past the end of its file answers a system call as the newer kernels' charge does: EFAULT."""
    region = Region(2 * MIB)
    file = door.memfd("short", MIB)
    region.place(file.fd)
    with pytest.raises(Unavailable, match=r"2048 KiB .* 1024 KiB were to be had: RLIMIT_MEMLOCK"):
        door.claim(region.address, region.size)
    file.close()
    region.close()
