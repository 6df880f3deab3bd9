"""A zygote, and a host side that has not given itself up yet, which do not say what they should: a named error or a
replaced zygote within the patience, nothing believed, no process and no descriptor left."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

import host_programs
from pagewarden.kernel.door import Descriptor
from pagewarden.kernel.uffd import GUARD_FEATURES, Userfault
from pagewarden.memory import PAGE_SIZE, PrivateMemory, Refused, Unavailable
from pagewarden.memory.isolated import process, zygote
from pagewarden.memory.isolated.messages import RECORD, MessageKind
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.request import ANSWER, ENDED, STARTED
from pagewarden.memory.isolated.room import PARTS, Outcomes
from pagewarden.memory.isolated.zygote import Fate
from private_kit import made
from spawn_faults import descendants, descriptors, settled

LIAR = """
import array, os, socket, struct, sys
control, lie = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
while True:
    request, fds, _, _ = socket.recv_fds(control, 1 << 17, 2)
    if not request:
        os._exit(0)
    channel, fate = fds[0], socket.socket(fileno=fds[1])
    def say(kind, value, *given, more=b""):
        socket.send_fds(fate, [struct.pack("<qq", kind, value) + more], list(given)) if given else fate.send(
            struct.pack("<qq", kind, value) + more)
    child = os.fork()
    if not child:
        control.close()
        fate.close()
        while os.read(channel, 1 << 17):
            pass
        os._exit(0)
    own = os.pidfd_open(child)
    exec(lie)
"""
LIES = {
    "no descriptor": "say(0, 0)",
    "two descriptors": "say(0, 0, own, own)",
    "short": "fate.send(bytes(15))",
    "short, with a descriptor": "socket.send_fds(fate, [bytes(8)], [own])",
    "long": "say(0, 0, own, more=b'!')",
    "very long": "say(0, 0, own, more=bytes(60000))",
    "out of turn": "say(1, 0)",
    "an unknown kind": "say(7, 0, own)",
    "an errno, with a descriptor": "say(0, 12, own)",
    "an errno that is none": "say(0, 1 << 40)",
    "a negative errno": "say(0, -12)",
    "a file": "say(0, 0, os.open('/dev/null', 0))",
    "a directory": "say(0, 0, os.open('/', 0))",
    "its warden": "say(0, 0, os.pidfd_open(os.getppid()))",
    "itself": "say(0, 0, os.pidfd_open(os.getpid()))",
    "its own child": "say(0, 0, own)",
    "init": "say(0, 0, os.pidfd_open(1))",
    "nothing at all": "fate.close()",
    "silence": "kept = fate",
    "an answer at the wrong place": "control.send(bytes(16))",
    "death": "os._exit(0)",
}
SILENT = ("silence", "an answer at the wrong place")


@pytest.fixture
def mem() -> Iterator[PrivateMemory]:
    with made("auto", 2 * PAGE_SIZE, isolated=True) as memory:
        yield memory


def end_zygote() -> None:
    for each in zygote._current:
        each.kill()


class Launcher:
    """In place of zygote._launched: the first so many lie."""

    def __init__(self, lie: str, liars: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lie, self.left, self._honest = lie, liars, zygote._launched
        self.liars: list[subprocess.Popen[bytes]] = []
        monkeypatch.setattr(zygote, "_launched", self)

    def __call__(self, end: socket.socket) -> "subprocess.Popen[bytes]":
        if not self.left:
            return self._honest(end)
        self.left -= 1
        arguments = [sys.executable, "-I", "-S", "-c", LIAR, str(end.fileno()), LIES[self.lie]]
        self.liars.append(subprocess.Popen(arguments, pass_fds=[end.fileno()]))
        end.close()
        return self.liars[-1]


@pytest.mark.parametrize("lie", LIES)
def test_a_zygote_that_lies_is_replaced(mem: PrivateMemory, lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lies: another is asked. Two: an error that says so."""
    end_zygote()
    processes, before = descendants(os.getpid()), descriptors()
    launcher = Launcher(lie, 2, monkeypatch)
    with pytest.raises((Refused, Unavailable), match="the process that starts host sides"):
        mem.spawn(host_programs.stay, patience=0.2 if lie in SILENT else 20)
    assert len(launcher.liars) == 2
    assert not settled(processes)
    assert descriptors() == before
    end_zygote()
    launcher.left = 1
    host = mem.spawn(host_programs.stay, patience=2 if lie in SILENT else 20)
    assert not host.dead
    assert len(launcher.liars) == 3
    assert launcher.liars[2].poll() is not None
    host.kill()


ENDS: dict[str, tuple[bytes, ...]] = {
    "a start again": (ANSWER.pack(STARTED, 0),),
    "a status that is none": (ANSWER.pack(ENDED, 256),),
    "a signal that is none": (ANSWER.pack(ENDED, -65),),
    "short": (bytes(15),),
    "long": (ANSWER.pack(ENDED, 0) + b"!",),
    "nothing": (),
}


@pytest.mark.parametrize("how", ["descriptor", *ENDS])
def test_an_end_that_is_not_told_as_it_should_be_is_not_believed(
    mem: PrivateMemory, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    monkeypatch.setattr(process, "PATIENCE", 0.1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host = mem.spawn(host_programs.stay)
    host._fate.close()
    host._fate = Fate(ours)
    with theirs:
        for each in ENDS.get(how, ()):
            theirs.send(each)
        if how == "descriptor":
            socket.send_fds(theirs, [ANSWER.pack(ENDED, 0)], [theirs.fileno()])
        with pytest.raises(Refused, match="nobody can tell how it ended"):
            host.kill()
    assert host.dead
    mem.spawn(host_programs.stay).kill()
    mem.close()
    assert sum(descriptors().values()) <= sum(before.values())


GOOD = len(PARTS) * 2
GREETINGS: dict[str, tuple[int, int, int]] = {  # window's start, bytes of READY, descriptors with HELLO
    "a window at 0": (0, GOOD, 1),
    "a window amid a page": (PAGE_SIZE + 1, GOOD, 1),
    "a window at a negative address": (-PAGE_SIZE, GOOD, 1),
    "READY without a word": (PAGE_SIZE, 0, 1),
    "READY too short": (PAGE_SIZE, GOOD - 1, 1),
    "READY too long": (PAGE_SIZE, GOOD + 2, 1),
    "no guard": (PAGE_SIZE, GOOD, 0),
    "two guards": (PAGE_SIZE, GOOD, 2),
}


def record(kind: MessageKind, value: int = 0, data: bytes = b"") -> bytes:
    return RECORD.pack(kind, len(data), value, data)


def greet(end: socket.socket, start: int, ready: int, guards: int) -> None:
    """In a process of its own: the guard must be that of an address space that goes."""
    try:
        guard = Userfault(GUARD_FEATURES)
        end.send(record(MessageKind.ASK))
        hello = record(MessageKind.HELLO, start)
        socket.send_fds(end, [hello], [guard.fd] * guards) if guards else end.send(hello)
        end.send(record(MessageKind.READY, 0, Outcomes().packed().ljust(ready, b"\0")[:ready]))
        signal.pause()
    finally:
        os._exit(0)


@pytest.mark.parametrize("greeting", [*GREETINGS, "honest"])
def test_a_host_side_that_greets_wrongly_is_refused_by_name(greeting: str) -> None:
    before = descriptors()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fate, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    told.send(ANSWER.pack(ENDED, -9))
    child = os.fork()
    if not child:
        greet(theirs, *GREETINGS.get(greeting, (PAGE_SIZE, GOOD, 1)))
    host = HostProcess(ours, Descriptor(os.pidfd_open(child)), Fate(fate))
    with theirs, told, open(os.devnull) as memory:
        if greeting == "honest":
            host.greet(memory.fileno(), (), 5)
        else:
            with pytest.raises((Refused, Unavailable), match=r"EPROTO: |did not start"):
                host.greet(memory.fileno(), (), 5)
        host.bury()
    os.waitpid(child, 0)
    del host
    assert descriptors() == before
