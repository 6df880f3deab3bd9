"""Run as an ordinary user by test_ordinary_user: private memory and an isolated host side without any privilege."""

import os
import sys

import host_programs
from pagewarden.kernel.counters import Counters
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory, Unavailable
from waits import SOON


def cooperating(backing: str) -> None:
    with PrivateMemory(16 * PAGE_SIZE, backing) as mem:
        mem.populate(0, b"payload")
        mem.share(PageRange(0, 1))
        assert mem.window.read(0, 7) == b"payload"
        mem.unshare(PageRange(0, 1))
        try:
            mem.window.read(0, 7)
            raise AssertionError("a private page answered")
        except PrivateAccess:
            pass


def isolated() -> None:
    with PrivateMemory(16 * PAGE_SIZE, isolated=True) as mem:
        mem.populate(0, b"payload!")
        host = mem.spawn(host_programs.peek)
        for shared in (False, True, False):
            (mem.share if shared else mem.unshare)(PageRange(0, 1))
            host.tell(0)
            message = host.receive(SOON)
            assert message is not None and (message.data == b"payload!") == shared, message
        host.tell(-1)
        assert host.wait(SOON) == 0
        host = mem.spawn(host_programs.try_everything)
        reports = [
            (message.value, message.data) for message in iter(lambda: host.receive(SOON), None) if message.kind == 3
        ]
        assert len(reports) == 25 and all(code for code, _ in reports), reports


def counting() -> None:
    with PrivateMemory(16 * PAGE_SIZE, "uffd-window") as mem:
        try:
            with Counters("tlb_flush"):
                return  # this system lets everybody count
        except Unavailable as lacking:
            assert "tlb_flush" in str(lacking)
        before = mem.statistics()["tlbi"]
        mem.share(PageRange(0, 2))
        mem.unshare(PageRange(0, 2))
        assert mem.statistics()["tlbi"] - before == 1


if __name__ == "__main__":
    assert os.geteuid() != 0
    for name in sys.argv[1:]:
        cooperating(name)
    isolated()
    counting()
    print("all done")
