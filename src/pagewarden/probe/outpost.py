"""One attempt in an untrusted host side: what runs there, and the words it has for whoever steers the warden."""

import importlib
from collections.abc import Callable
from types import ModuleType

from pagewarden.memory.isolated.side import HostSide
from pagewarden.probe.registry import REGISTRY, Direction, Target
from pagewarden.probe.trial import Evidence, Hand
from pagewarden.vocab import Unavailable

ARMED, EVIDENCE, LACK = 1, 2, 3
"""What a report's number means."""
ERROR_BYTES = 16


class Family(str):
    """A module's name that arrives at the other end of a pickle as the module: imported before the host side gives up
    its rights, among them perhaps that to read the library's files."""

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return importlib.import_module, (str(self),)


def act(
    host: HostSide, family: Family, name: str, direction: Direction, place: int, kept: tuple[str, ...], known: int
) -> None:
    """The host side's whole life: an attempt on the page at an offset, and its evidence. The path is of that family;
    kept: what the first of the host's descriptors are in a Target, the path's own follow; known: the page's address in
    the warden."""
    own, fds = dict(zip(kept, host.fds, strict=False)), host.fds[len(kept) :]
    hand = Hand(Target(host.address + place, host.pid, host.warden, open_mapping=known, fds=fds, **own))
    try:
        evidence = hand.arm(REGISTRY.paths[name, direction])
        if evidence is None:
            host.report(ARMED)
            evidence = hand.use(host.listen().to_bytes(4, "little"))
    except Unavailable as lack:
        host.report(LACK, f"{lack.what}\0{lack.advice}".encode())
        return
    host.report(EVIDENCE, (evidence.error or "").encode().ljust(ERROR_BYTES) + evidence.seen)


def read(data: bytes) -> Evidence:
    """What the data of an EVIDENCE report say."""
    return Evidence(data[ERROR_BYTES:], data[:ERROR_BYTES].decode(errors="replace").strip() or None)
