"""A warden under attack, as a program: `attacked.py FD SCENARIO ...` writes one line of JSON to the descriptor: what
was found out (attack_warden). `attacked.py FD combos SCENARIO`: once for each way to have 0, 1 and 2 open or closed.
"""

import ctypes
import fcntl
import json
import os
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import combinations

import attacked_kills
import attacked_limits
import hostile
import hostile_calls
from attack_warden import PIECE, Verdict, Warden, isolated, reports, words
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
from pagewarden.memory import PageRange
from pagewarden.memory.isolated.allowed import ALLOWED, NAMES
from pagewarden.memory.isolated.room import Part
from pagewarden.vocab import Refused, Unavailable
from spawn_faults import descendants
from waits import SOON


def outlive() -> Verdict:
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


def lurk() -> Verdict:
    """One host side after the other, each of which looks for what the next or the zygote has for a moment."""
    went, which = 0, ""
    warden = Warden()
    for _ in range(5):
        host = warden.spawn(hostile.take_file)
        went, which = max(went, warden.hear()), words(warden)
        with suppress(Refused):
            host.kill()
    return warden.verdict(went=went, which=which)


def kill_others() -> Verdict:
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


def deaf() -> Verdict:
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


def flood() -> Verdict:
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


def offsets() -> Verdict:
    """The file that was handed over keeps its offset and its flags."""
    warden = Warden()
    warden.file.seek(5)
    flags = fcntl.fcntl(warden.file, fcntl.F_GETFL)
    warden.spawn(hostile.move_offsets)
    answer = warden.hear()
    same = os.lseek(warden.file.fileno(), 0, os.SEEK_CUR) == 5 and fcntl.fcntl(warden.file, fcntl.F_GETFL) == flags
    return warden.verdict(went=int(answer == 0) + int(not same))


def numbers() -> Verdict:
    """The host side uses the number that the caller has; the bytes are in the caller's file."""
    warden = Warden()
    warden.memory.private_write(0, b"shared!!")
    high = os.dup2(warden.file.fileno(), 500)
    warden.host = warden.memory.spawn(hostile.write_by_number, high, fds=(warden.file.fileno(), high))
    refused = warden.hear()
    wrote = os.pread(warden.file.fileno(), 8, 0)
    return warden.verdict(went=int(wrote != b"shared!!") + int(refused != len(hostile.HIGH)))


def closed(*which: str) -> Verdict:
    """Started with some of 0, 1 and 2 closed; they are given back afterwards, for the answer alone."""
    warden = Warden()
    warden.spawn(hostile.standard_files)
    went = warden.hear()
    said = words(warden)
    warden.hear()
    own = [fd for fd in (warden.memory.file, isolated(warden)._replacing._waiting.fd) if fd < 3]
    return warden.verdict(went=went, which=said, own=own)


def denied() -> Verdict:
    return reports(hostile_calls.sweep_denied, tuple(NAMES))


def allowed() -> Verdict:
    """Each call of the table with hostile arguments, in a host side of its own."""
    warden, tried = Warden(), 0
    for entry in ALLOWED:
        host = warden.spawn(hostile_calls.sweep_allowed, entry.name)
        with suppress(Refused):
            warden.hear(0.3)
        with suppress(Refused):
            host.kill()
        tried += 1
        warden.memory.unshare(PageRange(0, 1))
        warden.memory.share(PageRange(0, 1))
    return warden.verdict(went=0, tried=tried)


def probes(number: str) -> Verdict:
    """A call that no filter sees: how the host side ended, and what it said."""
    warden = Warden()
    host = warden.spawn(hostile_calls.probes, int(number))
    warden.hear()
    code = warden.hear()
    return warden.verdict(went=0, code=code, status=host.wait(SOON))


def terminal() -> Verdict:
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


def inherited() -> Verdict:
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
    host.tell(0)
    went = warden.hear()
    warden.secrets.pop()
    keyring = host.outcomes[Part.KEYRING]
    return warden.verdict(went=went + len(sets_left), which=words(warden), sets=sets_left, keyring=keyring)


def walled(*denied: str) -> Verdict:
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


def combos(scenario: str, *arguments: str) -> Verdict:
    """The scenario with some of 0, 1 and 2 closed, each way in a process of its own."""
    found: dict[str, Verdict] = {}
    for closed in [each for n in range(4) for each in combinations((0, 1, 2), n)]:
        receive, transmit = (confine.lift(end) for end in os.pipe())
        if (child := os.fork()) == 0:
            with open(transmit, "w") as out, suppress(BaseException):
                for fd in closed:
                    os.close(fd)
                json.dump(SCENARIOS[scenario](*arguments), out)
            os._exit(0)
        os.close(transmit)
        with open(receive) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        found[str(closed)] = json.loads(text) if text else {"went": 1, "which": f"no answer with {closed} closed"}
    worst = max(found.values(), key=lambda each: bool(each["went"] or each["leaked"] or not each["intact"]))
    return worst | {"combos": len(found)}


SCENARIOS: dict[str, Callable[..., Verdict]] = {
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
    "walled": walled,
    "probes": probes,
    "terminal": terminal,
    "inherited": inherited,
    "combos": combos,
    **attacked_limits.SCENARIOS,
    **attacked_kills.SCENARIOS,
}

if __name__ == "__main__":
    scenario, *rest = sys.argv[2:]
    answer = SCENARIOS[scenario](*rest)
    with open(int(sys.argv[1]), "w") as out:
        json.dump(answer, out)
