"""The process outside the sandbox: it reaches into a process that lets it, and hands back what it got, or the errno."""

import ctypes
import errno
import os

import pytest

from live import require
from pagewarden.kernel.door import prctl
from pagewarden.probe import raw
from pagewarden.probe.outsider import Outsider, ask
from pagewarden.probe.paths import peers

SECRET = b"a secret of thirty-two bytes !!!" * 2


def attempt(dumpable: bool) -> bytes:
    """In a child: be looked into by an outsider of the same user."""
    page = ctypes.create_string_buffer(SECRET, len(SECRET))
    outsider = Outsider(peers.ACCESSES)
    raw.make_dumpable()
    if not dumpable:
        prctl(4, 0)  # PR_SET_DUMPABLE
    return ask(outsider.fd, "vm_read", os.getpid(), ctypes.addressof(page))


@pytest.fixture(autouse=True)
def _allowed() -> None:
    peers.peers()


def test_an_outsider_without_privileges_cannot_look_into_this_process_once_it_is_undumpable() -> None:
    with pytest.raises(OSError) as caught:
        raw.elsewhere(lambda: attempt(dumpable=False))
    assert caught.value.errno == errno.EPERM


def test_an_outsider_is_the_host_sides_user_and_not_root() -> None:
    require(os.geteuid() == 0, "only root becomes another user")

    def as_host_side() -> bytes:
        from pagewarden.kernel import confine

        outsider = Outsider(peers.ACCESSES)
        confine.become_nobody()
        raw.make_dumpable()
        page = ctypes.create_string_buffer(SECRET, len(SECRET))
        return ask(outsider.fd, "vm_read", os.getpid(), ctypes.addressof(page))

    assert raw.elsewhere(as_host_side) == SECRET


def test_asking_whether_peers_may_look_leaves_this_process_as_it_was() -> None:
    def before_and_after() -> bytes:
        prctl(4, 0)
        peers.peers()
        return bytes([prctl(3)])  # PR_GET_DUMPABLE

    assert raw.elsewhere(before_and_after) == b"\0"
