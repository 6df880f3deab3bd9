"""What the kernel refuses is said with its cause and its remedy, and `auto` takes the next."""

import ctypes
import errno
import subprocess
import sys
from typing import Any

import pytest

from pagewarden.kernel import door, machine, uffd
from pagewarden.kernel.causes import CAUSES, CallFailed
from pagewarden.kernel.mappings import MAPPINGS, RESERVE, used
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, Unavailable


class Denying:
    """The C library that answers one system call with an errno."""

    def __init__(self, libc: ctypes.CDLL, name: str, code: int) -> None:
        self._libc, self._number, self._code = libc, machine.number_of(name), code

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._libc, name)
        if name != "syscall":
            return function

        def call(number: ctypes.c_long, *arguments: Any) -> Any:
            if number.value != self._number:
                return function(number, *arguments)
            ctypes.set_errno(self._code)
            raise ValueError("as of -1")

        return call


FORESEEN = [key for key in CAUSES if key[0] in ("memfd_secret", "userfaultfd")]


@pytest.mark.parametrize(("name", "code"), FORESEEN, ids=[f"{name}-{errno.errorcode[code]}" for name, code in FORESEEN])
def test_each_errno_has_its_cause_and_auto_goes_on(name: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cause, advice = CAUSES[name, code]
    monkeypatch.setattr(door, "_opening", Denying(door._opening, name, code))
    uffd.offered.cache_clear()
    backing, other = ("memfd-secret", "uffd-window") if name == "memfd_secret" else ("uffd-window", "memfd-secret")
    with pytest.raises(Unavailable) as caught:
        PrivateMemory(PAGE_SIZE, backing)
    assert cause in caught.value.what and caught.value.advice == advice
    try:
        with PrivateMemory(PAGE_SIZE, use="host") as mem:
            assert mem.backing == other
            assert (cause in mem.why) == (name == "memfd_secret")  # the weaker one was not asked
    finally:
        uffd.offered.cache_clear()


def test_a_sysctl_is_advised_only_where_it_helps() -> None:
    assert "sysctl" not in CAUSES["userfaultfd", errno.EPERM][1]
    assert "vm.unprivileged_userfaultfd" in CAUSES["userfaultfd for kernel faults", errno.EPERM][1]


def limited(limit: str, value: int, expression: str) -> str:
    """What a process under a limit prints."""
    lines = f"""
import resource, sys
resource.setrlimit(resource.{limit}, ({value}, {value}))
from pagewarden.memory import *
try:
    mem = {expression}
    print(mem.backing, mem.why)
except Unavailable as lacking:
    print(lacking)
"""
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stdout


def test_limits_are_named() -> None:
    assert "RLIMIT_FSIZE" in limited("RLIMIT_FSIZE", 1 << 20, "PrivateMemory(1 << 30, 'memfd')")
    assert "RLIMIT_AS" in limited("RLIMIT_AS", 4 << 30, "PrivateMemory(8 << 30, 'memfd')")


def test_a_reservation_is_no_private_writable_memory() -> None:
    for backing in ("memfd", "uffd-window"):
        said = limited("RLIMIT_DATA", 1 << 30, f"PrivateMemory(4 << 30, {backing!r})")
        assert said.startswith(backing), said


def test_scattered_sharing_is_refused_before_the_mappings_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    mem = PrivateMemory(1024 * PAGE_SIZE, "memfd-secret")
    with mem:
        limit = used() + RESERVE + 100
        monkeypatch.setattr(MAPPINGS, "limit", limit)
        monkeypatch.setattr(MAPPINGS, "_bound", limit)

        def scatter() -> None:
            for page in range(0, 1024, 2):
                mem.share(PageRange(page, page + 1))

        with pytest.raises(Refused, match=r"vm\.max_map_count.*uffd-window") as caught:
            scatter()
        assert caught.value.errno == errno.ENOMEM
        assert limit - RESERVE - 3 <= used() <= limit - RESERVE
        assert not mem.is_shared((caught.value.offset or 0) // PAGE_SIZE) and len(list(mem.shared_runs())) > 40
        mem.unshare(PageRange(0, 1024))
        mem.share(PageRange(0, 1))
        assert mem.window.read(0, 1) == b"\0"


def test_a_call_that_failed_pickles() -> None:
    import pickle

    again = pickle.loads(pickle.dumps(CallFailed("mprotect", errno.ENOMEM)))
    assert (again.call, again.errno, again.advice) == ("mprotect", errno.ENOMEM, CAUSES["mprotect", errno.ENOMEM][1])
    refused = pickle.loads(pickle.dumps(Refused(errno.EAGAIN, "held", 4096)))
    assert (refused.errno, refused.why, refused.offset, str(refused)) == (
        errno.EAGAIN,
        "held",
        4096,
        str(Refused(errno.EAGAIN, "held", 4096)),
    )
    assert pickle.loads(pickle.dumps(Unavailable("x", "y"))).advice == "y"
