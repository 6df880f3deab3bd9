"""Scenarios about what a host side has of its own, and about what the warden waits for. See attacked."""

import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hostile_limits
from attack_warden import Verdict, Warden, reports, words
from pagewarden.memory import PageRange
from pagewarden.memory.isolated import room
from pagewarden.vocab import Refused, Unavailable
from pagewarden.vocab.places import private_cache
from waits import SOON

HOARD, ROOM_TO_HOARD = 512, 160
"""MiB that a host side tries to fill, and that its control group has for it, its warden and its zygote together."""
PAGE = PageRange(0, 1)


def linger() -> Verdict:
    """A socket whose last close would wait for an hour is handed over: nobody waits for it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with peer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(bytes(1 << 16))
        warden = Warden()
        fd = os.dup2(client.fileno(), 500)
        client.detach()
        warden.host = warden.memory.spawn(hostile_limits.linger, fd, fds=(warden.file.fileno(), fd))
        went = warden.hear()
        said = words(warden)
        begin = time.monotonic()
        warden.host.kill()
        verdict = warden.verdict(went=went, which=said)
        return verdict | {"late": time.monotonic() - begin > SOON}


def threads() -> Verdict:
    """One host side has as many threads as it gets: another one has its own all the same."""
    greedy, warden = Warden(), Warden()
    greedy.spawn(hostile_limits.take_threads)
    taken = greedy.hear()
    warden.spawn(hostile_limits.need_threads)
    made = warden.hear()
    found = greedy.verdict()
    return warden.verdict(went=int(taken > room.THREADS), taken=taken, made=made) | {"other": found["leaked"] == 0}


def space() -> Verdict:
    """Addresses and the length of a file in memory are limited."""
    warden = Warden()
    warden.spawn(hostile_limits.most_space)
    most = room.SPACE >> 20
    addresses, length = warden.hear(), warden.hear()
    return warden.verdict(went=int(addresses > most) + int(length > most), addresses=addresses, length=length)


def hoard() -> Verdict:
    """Memory runs out in the control group of warden and host side: the host side is killed, not the warden."""
    group = _memory_group()
    if group is None:
        return {"skipped": "no memory control group can be made here"}
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        warden = Warden()
        host = warden.spawn(hostile_limits.hoard, HOARD)
        warden.hear()
        went = warden.hear()
        host.end()
        warden.spawn(hostile_limits.need_threads)  # the zygote may have gone with it
        return warden.verdict(went=int(went == -7), again=warden.hear())
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        for _ in range(1000):
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.01)


def _memory_group() -> Path | None:
    """A new control group of this process's own with little memory."""
    for top, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(top) / f"pagewarden-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(ROOM_TO_HOARD << 20))
                return group
            except OSError:
                group.rmdir()
    return None


def hold(times: str) -> Verdict:
    """A host side that keeps its address space busy for as long as it lives: conversions come to their end."""
    warden = Warden()
    warden.spawn(hostile_limits.hold)
    warden.hear()
    for _ in range(int(times)):
        warden.memory.unshare(PAGE)
        warden.memory.share(PAGE)
    return warden.verdict(went=0)


def stopped(when: str) -> Verdict:
    """A host side that stops itself: nothing that the warden does waits for it."""
    warden = Warden()
    host, refused = warden.spawn(hostile_limits.stop_yourself, int(when)), []
    for _ in range(3):
        for act in (lambda: warden.hear(0.1), lambda: host.tell(0, timeout=0.1), lambda: host.wait(0.1)):
            with suppress(Refused, ConnectionError):  # or it has died of a page that was taken back
                act()
                refused.append(act)
        warden.memory.unshare(PAGE)
        warden.memory.share(PAGE)
    with suppress(Refused, ConnectionError):
        while True:  # whatever it has room for
            host.tell(0, timeout=0.1)
    status = host.kill()
    return warden.verdict(went=0, status=status)


def remap() -> Verdict:
    """Its own window in pieces, each way in a host side of its own: a page can be taken back, whatever it did; that it
    cannot be given is its own loss."""
    warden, went, died = Warden(), [], []
    for how in hostile_limits.REMAPPED:
        host = warden.spawn(hostile_limits.remap, how)
        if warden.hear() >= 0 and how in ("populate", "moved", "locked", "sealed"):
            went.append(how)
        for _ in range(3):
            warden.memory.unshare(PAGE)
            with suppress(Refused):
                warden.memory.share(PAGE)
        if host.dead:
            died.append(how)
        host.kill()
        warden.memory.share(PAGE)
    return warden.verdict(went=len(went), which=went, died=died)


def kernel_writes() -> Verdict:
    """The kernel is made to read or write private pages on behalf of the host side."""
    warden = Warden()
    for which in range(hostile_limits.KERNEL_WRITES):
        host = warden.spawn(hostile_limits.kernel_writes, which)
        with suppress(Refused):
            warden.hear(0.5)
        with suppress(Refused):
            host.kill()
    return warden.verdict(went=0)


def old_gate() -> Verdict:
    """int 0x80 ends the process."""
    warden = Warden()
    host = warden.spawn(hostile_limits.old_gate)
    warden.hear()
    went = warden.hear()
    return warden.verdict(went=int(went >= 0), which=words(warden), status=host.wait(SOON))


def poison() -> Verdict:
    """The caches of the warden's user are as they were."""
    place = private_cache()
    if place is None:
        return {"skipped": "this user has no cache"}
    (place / "there").write_text("believed")
    before = _tree(place)
    found = reports(hostile_limits.poison, str(place))
    changed = _tree(place) != before
    return found | {"went": found["went"] + changed}


def _tree(place: Path) -> list[Any]:
    return sorted((str(path), path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in place.rglob("*"))


def beside() -> Verdict:
    """A module that starts a thread when it is forked: no host side runs with that, which no filter would bind."""
    warden = Warden()
    try:
        warden.spawn(__import__("starts_a_thread").nothing)
    except Unavailable as refused:
        return warden.verdict(went=0, refusal=str(refused))
    return warden.verdict(went=1, refusal="")


SCENARIOS: dict[str, Callable[..., Verdict]] = {
    "linger": linger,
    "threads": threads,
    "space": space,
    "hoard": hoard,
    "hold": hold,
    "stopped": stopped,
    "remap": remap,
    "kernel-writes": kernel_writes,
    "old-gate": old_gate,
    "poison": poison,
    "beside": beside,
}
