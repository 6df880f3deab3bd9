"""Serving a device at a socket: the mode says where it runs, and what it sees of the guest's memory."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict, get_args

from pagewarden.kernel.listening import listening
from pagewarden.vhost.guarded import GuardedHost
from pagewarden.vhost.hosts import OpenHost, ServeCounts, view_of
from pagewarden.vhost.iommu import IommuHost
from pagewarden.vhost.kinds import DeviceKind, ServedDevice
from pagewarden.vhost.pool import PoolHost
from pagewarden.vhost.regions import GuestRegions
from pagewarden.vhost.server import Server, until_signal
from pagewarden.vocab import PAGE_SIZE, UserMistake

ServeMode: TypeAlias = Literal["iommu", "pool", "open"]
MODES: tuple[ServeMode, ...] = get_args(ServeMode)
QUEUE_SIZE = 256
"""Entries of a queue without a guard."""


class ServeOptions(TypedDict, total=False):
    """stay: go on when the front end has ended, for the next. allow_lazy: serve a guest that takes pages back late.
    probe: the device's process tries pages that are not lent all the while, and what answers is a violation. pool: see
    PoolHost. say: hears what went wrong; tell: what happens, event by event; live: the counts about once a second."""

    mode: ServeMode
    stay: bool
    allow_lazy: bool
    probe: bool
    pool: range | None
    say: Callable[[str], None]
    tell: Callable[[Mapping[str, object]], object]
    live: Callable[[ServeCounts], None] | None


def pages_between(given: str) -> range:
    """Guest physical pages from `ADDR-ADDR`, the second beyond the pool as Linux says it (kernel/dma/swiotlb.c,
    swiotlb_print_info). UserMistake."""
    try:
        first, stop = (int(part, 0) for part in given.split("-"))
        if first % PAGE_SIZE or not 0 <= first < stop <= 1 << 52:
            raise ValueError
    except ValueError:
        raise UserMistake(
            f"--pool {given}: expected ADDR-ADDR in whole pages; in the guest, dmesg | grep 'software IO TLB' says them"
        ) from None
    return range(first // PAGE_SIZE, -(-stop // PAGE_SIZE))


def serve_device(
    kind: DeviceKind,
    path: Path | None,
    fd: int | None,
    name: object,
    *,
    mode: ServeMode = "iommu",
    stay: bool = False,
    allow_lazy: bool = False,
    probe: bool = False,
    pool: range | None = None,
    say: Callable[[str], None] = lambda what: None,
    tell: Callable[[Mapping[str, object]], object] = lambda event: None,
    live: Callable[[ServeCounts], None] | None = None,
) -> ServeCounts:
    """Serve a device at a new socket, or at one that was inherited, until the front end's process or a signal ends it;
    what was done. name: of what is served, for whoever looks; the rest: ServeOptions. UserMistake, Unavailable."""
    counts = ServeCounts()

    def heard(what: str) -> None:
        tell({"event": "said", "what": what})
        say(what)

    counts.tell = tell
    with until_signal(), ExitStack() as opened:
        memory = opened.enter_context(closing(GuestRegions()))
        view = opened.enter_context(closing(view_of(memory)))
        served = ServedDevice(kind, view, memory, counts, heard, probe)
        host: OpenHost | GuardedHost
        if mode == "iommu":
            host = IommuHost(served, allow_lazy=allow_lazy)
        elif mode == "pool":
            host = PoolHost(served, pool=pool)
        else:
            device = kind.make(view, QUEUE_SIZE)
            opened.callback(device.write_status, 0)
            host = OpenHost(device, memory, kind.queues, counts)
        opened.callback(host.close)
        opened.callback(host.count)
        listener = opened.enter_context(listening(path, fd))
        heard(f"serving {name} at {path if path is not None else f'descriptor {fd}'}")
        server = Server(listener, host, memory, heard)
        if live is not None:

            def look() -> None:
                host.count()
                live(counts)

            server.live = look
        server.run(stay)
    return counts
