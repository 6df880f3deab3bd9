"""A warden under attack, as a program: `attacked.py SCENARIO`. It keeps random secrets in private pages, lets a hostile
host side loose, does to it what the scenario says, and prints one line of JSON: what was found out. Nothing must be:

leaked: bytes of secrets in what the host side sent, said or wrote. intact: the memory is as the warden left it.
went: what the host side itself says that it could do. left: is anything of it left.
"""

import ctypes
import fcntl
import json
import os
import signal
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import hostile
from pagewarden.abi.confinement import (
    _LINUX_CAPABILITY_VERSION_3,
    KEYCTL_JOIN_SESSION_KEYRING,
    PR_CAP_AMBIENT,
    PR_SET_SECUREBITS,
    cap_user_data,
    cap_user_header,
)
from pagewarden.kernel import confine, seccomp
from pagewarden.kernel.door import prctl, readable, syscall
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.memory.isolated import process
from pagewarden.memory.isolated.allowed import ALLOWED, NAMES
from pagewarden.memory.isolated.messages import MessageKind
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.room import Part
from pagewarden.memory.isolated.window import IsolatedWindow
from pagewarden.vocab import Refused, Unavailable
from spawn_faults import descendants, settled
from waits import SOON

PR_SET_CHILD_SUBREAPER = 36
PAGES = 8
PIECE = 16
"""Bytes of a secret that are searched for: random, so that none turns up by chance."""


class Warden:
    """A memory whose first page is shared and whose others hold secrets, and all that was heard."""

    def __init__(self, level: Literal[True, "best-effort"] = True) -> None:
        self.memory = PrivateMemory(PAGES * PAGE_SIZE, isolated=level)
        self.secrets = [os.urandom(PIECE) for _ in range(PAGES - 1)]
        self.memory.private_write(PAGE_SIZE, b"".join(secret * (PAGE_SIZE // PIECE) for secret in self.secrets))
        self.memory.share(PageRange(0, 1))
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.heard: list[bytes] = []
        self.host: HostProcess | None = None

    def spawn(self, function: Callable[..., object], *arguments: Any) -> HostProcess:
        """Let it run on the memory."""
        self.host = self.memory.spawn(function, *arguments, fds=(self.file.fileno(),))
        return self.host

    def hear(self, timeout: float = SOON) -> int:
        """The next report's value; -1 at its end."""
        assert self.host is not None
        message = self.host.receive(timeout)
        if message is None:
            return -1
        self.heard.append(message.data)
        if message.kind is MessageKind.DONE:
            return -2
        return message.value

    def leaked(self) -> int:
        """Bytes of secrets in all that came out of the host side."""
        out = b"".join(self.heard) + os.pread(self.file.fileno(), 1 << 30, 0)
        if self.host is not None:
            out += self.host.words.encode(errors="surrogateescape")
        return sum(out.count(secret) for secret in self.secrets) * PIECE

    def intact(self) -> bool:
        expected = b"".join(secret * (PAGE_SIZE // PIECE) for secret in self.secrets)
        return self.memory.private_read(PAGE_SIZE, len(expected)) == expected and list(self.memory.shared_runs()) == [
            PageRange(0, 1)
        ]

    def verdict(self, **found: Any) -> dict[str, Any]:
        """End everything, then say what was found."""
        pid = self.host.pid if self.host is not None else -1
        intact = self.intact()
        self.memory.close()
        left = pid > 0 and _runs(pid)
        return {"leaked": self.leaked(), "intact": intact, "left": left, "undead": len(process._undead), **found}


def isolated(warden: Warden) -> IsolatedWindow:
    backing = warden.memory._backing
    assert isinstance(backing, IsolatedWindow)
    return backing


def words(warden: Warden) -> str:
    return warden.heard[-1].decode(errors="replace") if warden.heard else ""


def outlive() -> dict[str, Any]:
    """The host side leaves whatever it can behind, and is killed."""
    warden = Warden()
    warden.spawn(hostile.outlive)
    warden.hear()
    went = warden.hear()
    which = words(warden)
    assert warden.host is not None
    status = warden.host.kill()
    warden.host.bury()
    time.sleep(0.1)  # what has outlived it looks every millisecond; too short a time can only miss a leak
    return warden.verdict(went=went, which=which, status=status)


def reports(function: Callable[..., object], *arguments: Any) -> dict[str, Any]:
    """The host side says how much went through; the first report counts."""
    warden = Warden()
    warden.spawn(function, *arguments)
    went = warden.hear()
    which = words(warden)
    while warden.hear() >= 0:
        pass
    return warden.verdict(went=went, which=which)


def lurk() -> dict[str, Any]:
    """One host side after the other, each of which looks for what the next or the zygote has for a moment."""
    went, which = 0, ""
    warden = Warden()
    for _ in range(5):
        host = warden.spawn(hostile.take_file)
        went, which = max(went, warden.hear()), words(warden)
        with suppress(Refused):
            host.kill()
    return warden.verdict(went=went, which=which)


def kill_others() -> dict[str, Any]:
    warden, other = Warden(), Warden()
    first = other.spawn(hostile.wait_and_look)
    other.hear()
    warden.spawn(hostile.kill_others, (first.pid, os.getpid(), os.getppid()))
    went = warden.hear()
    which = words(warden)
    alive = not first.dead
    with open(f"/proc/{first.pid}/stat") as line:
        alive = alive and line.read().rsplit(")", 1)[1].split()[0] != "T"
    first.kill()
    return warden.verdict(went=went, which=which, other=alive) | {"leaked": warden.leaked() + other.leaked()}


def deaf() -> dict[str, Any]:
    """A host side that answers and never reads: the doorbell ends."""
    warden = Warden()
    host = warden.spawn(hostile.deaf)
    refused = 0
    try:
        for _ in range(100_000):
            host.tell(0, timeout=0.2)
            warden.hear()
    except Refused as late:
        refused = late.errno
    host.kill()
    return warden.verdict(went=0, refused=refused)


def flood() -> dict[str, Any]:
    """Words without end: a wait has one, they are bounded, and nothing that a terminal obeys comes through."""
    warden = Warden()
    sys.stderr = None
    host = warden.spawn(hostile.flood)
    warden.hear()
    refused = 0
    try:
        host.receive(0.5)
    except Refused as late:
        refused = late.errno
    for _ in range(300):
        with suppress(Refused):
            host.receive(0.0)
    bad = sum(not (c.isprintable() or c == "\n") for c in host.words)
    host.kill()
    return warden.verdict(went=bad, refused=refused, words=len(host.words))


def offsets() -> dict[str, Any]:
    """The file that was handed over keeps its offset and its flags."""
    warden = Warden()
    warden.file.seek(5)
    flags = fcntl.fcntl(warden.file, fcntl.F_GETFL)
    warden.spawn(hostile.move_offsets)
    answer = warden.hear()
    same = os.lseek(warden.file.fileno(), 0, os.SEEK_CUR) == 5 and fcntl.fcntl(warden.file, fcntl.F_GETFL) == flags
    return warden.verdict(went=int(answer == 0) + int(not same))


def numbers() -> dict[str, Any]:
    """The host side uses the number that the caller has; the bytes are in the caller's file."""
    warden = Warden()
    warden.memory.private_write(0, b"shared!!")
    high = os.dup2(warden.file.fileno(), 500)
    warden.host = warden.memory.spawn(hostile.write_by_number, high, fds=(warden.file.fileno(), high))
    refused = warden.hear()
    wrote = os.pread(warden.file.fileno(), 8, 0)
    return warden.verdict(went=int(wrote != b"shared!!") + int(refused != len(hostile.HIGH)))


def closed(*which: str) -> dict[str, Any]:
    """Started with some of 0, 1 and 2 closed; they are given back afterwards, for the answer alone."""
    warden = Warden()
    warden.spawn(hostile.standard_files)
    went = warden.hear()
    said = words(warden)
    warden.hear()
    own = [fd for fd in (warden.memory.file, isolated(warden)._replacing._waiting.fd) if fd < 3]
    return warden.verdict(went=went, which=said, own=own)


def denied() -> dict[str, Any]:
    return reports(hostile.sweep_denied, tuple(NAMES))


def allowed() -> dict[str, Any]:
    """Each call of the table with hostile arguments, in a host side of its own."""
    warden, tried = Warden(), 0
    for entry in ALLOWED:
        host = warden.spawn(hostile.sweep_allowed, entry.name)
        with suppress(Refused):
            warden.hear(0.3)
        with suppress(Refused):
            host.kill()
        tried += 1
        warden.memory.unshare(PageRange(0, 1))
        warden.memory.share(PageRange(0, 1))
    return warden.verdict(went=0, tried=tried)


def kills(seed: str) -> dict[str, Any]:
    """Zygote, launcher, host side killed or stopped in some order at some point of progress; the memory goes on."""
    import random

    dice, warden, rounds = random.Random(int(seed)), Warden(), 0
    for _ in range(25):
        host = warden.spawn(hostile.wait_and_look)
        warden.hear()
        used = isolated(warden)._zygote
        assert used is not None
        init = _child_of(used.pid)
        victims = [(host.pid, signal.SIGKILL), (used.pid, signal.SIGKILL), (init, signal.SIGKILL)]
        victims += [(host.pid, signal.SIGSTOP), (init, signal.SIGSTOP)]
        for pid, number in dice.sample(victims, dice.randint(1, 3)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            for _ in range(dice.randint(0, 3)):
                warden.memory.share(PageRange(0, 1))
                warden.memory.unshare(PageRange(0, 1))
            warden.memory.share(PageRange(0, 1))
        with suppress(Refused):
            host.kill()
        rounds += 1
    return warden.verdict(went=0, rounds=rounds)


def wardens(seed: str) -> dict[str, Any]:
    """The warden itself, a child of this process, is killed at some point; whoever it left comes to this process."""
    import random

    dice, rounds, left = random.Random(int(seed)), 0, set[int]()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = Warden()  # its file is where the others' host sides write
    own = descendants(os.getpid())
    for _ in range(12):
        come, go = os.pipe()
        if (warden := os.fork()) == 0:
            with suppress(BaseException):
                _doomed(supervisor.secrets, supervisor.file.fileno(), go)
            os._exit(1)
        os.close(go)
        for _ in range(dice.randint(1, 12)):
            if not os.read(come, 1):
                break
        os.kill(warden, signal.SIGKILL)
        os.waitpid(warden, 0)
        os.close(come)
        left |= settled(own)
        rounds += 1
    return supervisor.verdict(went=len(left), rounds=rounds)


def _doomed(secrets: list[bytes], file: int, go: int) -> None:
    """A warden that says how far it has come, byte by byte."""
    memory = PrivateMemory(PAGES * PAGE_SIZE, isolated=True)
    memory.private_write(PAGE_SIZE, b"".join(secret * (PAGE_SIZE // PIECE) for secret in secrets))
    os.write(go, b".")
    for _ in range(100):
        host = memory.spawn(hostile.wait_and_look, fds=(file,))
        os.write(go, b".")
        host.receive(SOON)
        for _ in range(3):
            memory.share(PageRange(0, 1))
            os.write(go, b".")
            memory.unshare(PageRange(0, 1))
        host.kill()
        os.write(go, b".")


def probes(number: str) -> dict[str, Any]:
    """A call that no filter sees: how the host side ended, and what it said."""
    warden = Warden()
    host = warden.spawn(hostile.probes, int(number))
    warden.hear()
    code = warden.hear()
    return warden.verdict(went=0, code=code, status=host.wait(SOON))


def terminal() -> dict[str, Any]:
    """The warden has a terminal: what is typed is still there afterwards, and it still echoes."""
    master, slave = os.openpty()
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    before = termios.tcgetattr(slave)
    os.write(master, b"typed\n")
    warden = Warden()
    warden.spawn(hostile.take_terminal)
    went = warden.hear()
    typed = os.read(0, 64) if readable([0], 0) else b""
    same = termios.tcgetattr(slave) == before and typed == b"typed\n"
    return warden.verdict(went=went + (not same), which=words(warden))


def inherited() -> dict[str, Any]:
    """A key in the warden's session keyring, and, as root, an ambient capability and no fixup by a change of user."""
    syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, 0)
    kind, name, payload = (ctypes.create_string_buffer(text) for text in (b"user", b"planted", os.urandom(PIECE)))
    session = (1 << 32) - 3  # KEY_SPEC_SESSION_KEYRING
    key = syscall("add_key", *map(ctypes.addressof, (kind, name, payload)), PIECE, session)
    if os.geteuid() == 0:
        prctl(PR_SET_SECUREBITS, 1 << 2)  # SECBIT_NO_SETUID_FIXUP
        header = cap_user_header(_LINUX_CAPABILITY_VERSION_3, 0)
        sets = (cap_user_data * 2)()
        syscall("capget", ctypes.addressof(header), ctypes.addressof(sets))
        sets[0].inheritable = sets[0].permitted
        syscall("capset", ctypes.addressof(header), ctypes.addressof(sets))
        prctl(PR_CAP_AMBIENT, 2, 21)  # PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN
        assert prctl(PR_CAP_AMBIENT, 1, 21) == 1
    warden = Warden()
    warden.secrets.append(payload.raw[:PIECE])
    host = warden.spawn(hostile.take_key, key)
    with open(f"/proc/{host.pid}/status") as lines:
        sets_left = [line for line in lines if line.startswith("Cap") and int(line.split()[1], 16)]
    went = warden.hear()
    warden.secrets.pop()
    keyring = host.outcomes[Part.KEYRING]
    return warden.verdict(went=went + len(sets_left), which=words(warden), sets=sets_left, keyring=keyring)


def _runs(pid: int) -> bool:
    """Is it there, and no zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as line:
            return line.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def _child_of(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as line:
        return int(line.read().split()[0])


def walled(*denied: str) -> dict[str, Any]:
    """On a host that refuses these system calls, as a container's filter does: what isolated=True says, and what
    "best-effort" goes without."""
    lines = [(0x20, 0, 0, 0)]
    for name in denied:
        lines += [(0x15, 0, 1, hostile.NUMBERS[name]), seccomp.DENY]
    confine.no_new_privileges()
    confine.install_filter([*lines, seccomp.ALLOW])
    refusal = ""
    try:
        warden = Warden()
    except Unavailable as lacking:
        refusal = str(lacking)
        assert not descendants(os.getpid())
        warden = Warden("best-effort")
    told = warden.memory.missing
    host = warden.spawn(hostile.take_file)
    assert told == warden.memory.missing == host.missing, "known before it starts"
    return warden.verdict(went=warden.hear(), refusal=refusal, missing=[each.part.title for each in told])


SCENARIOS: dict[str, Callable[..., dict[str, Any]]] = {
    "outlive": outlive,
    "break-guard": lambda: reports(hostile.break_guard),
    "take-file": lambda: reports(hostile.take_file),
    "lurk": lurk,
    "kill-others": kill_others,
    "deaf": deaf,
    "flood": flood,
    "offsets": offsets,
    "numbers": numbers,
    "closed": closed,
    "denied": denied,
    "allowed": allowed,
    "kills": kills,
    "walled": walled,
    "wardens": wardens,
    "probes": probes,
    "terminal": terminal,
    "inherited": inherited,
}

if __name__ == "__main__":
    scenario, *rest = sys.argv[2:]
    answer = SCENARIOS[scenario](*rest)
    with open(int(sys.argv[1]), "w") as out:
        json.dump(answer, out)
