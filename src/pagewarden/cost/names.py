"""What has a price: every hop, every event but the copied bytes, some syscalls, and two rates of copying."""

from typing import Literal

from pagewarden.vocab import EDGES, Event
from pagewarden.vocab.events import ENTRIES

HOPS = {edge: "hop_" + edge.replace(">", "_") for edge in EDGES}
"""Edge -> the name of its price."""
BYTES = (Event.GUEST_COPY_BYTES, Event.HOST_COPY_BYTES)
"""Events priced by a rate."""
EVENTS = tuple(event.key for event in Event if event not in BYTES)
"""Events priced each; access_syscalls is the price of a syscall without one of its own."""
RATES = {"warm": "copy_warm", "cold": "copy_cold"}
"""Cache -> the name of the rate, ns a byte."""
GUEST_RATES = {cache: f"guest_{rate}" for cache, rate in RATES.items()}
"""The same for a guest whose instructions are slower than the host's (an emulated CPU); without it, the host's."""
SYSCALLS = {
    name: f"syscall_{name}"
    for name in ("mmap", "munmap", "mprotect", "madvise", "pread", "pwrite", "splice", "vmsplice", "ioctl", "fallocate")
}
"""Syscalls that a profile may price on their own."""
RANGES = {event.key: f"{event.key}_range" for event in ENTRIES}
"""What a profile may ask, beside the price of each page, once for an operation on a range of them."""
REQUIRED = (*HOPS.values(), *EVENTS, *RATES.values())
"""Prices that every profile has."""
PRICES = (*HOPS.values(), *EVENTS, *RANGES.values(), *SYSCALLS.values(), *RATES.values(), *GUEST_RATES.values())
"""All names of prices, in the order of reports."""


def unit(name: str) -> Literal["ns", "ns_per_byte"]:
    """`ns` or `ns_per_byte`."""
    return "ns_per_byte" if name in (*RATES.values(), *GUEST_RATES.values()) else "ns"


def setting(name: str) -> str:
    """The key that overrides this price: tlbi -> tlbi_ns."""
    return f"{name}_{unit(name)}"
