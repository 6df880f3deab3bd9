"""What the untrusted host side runs in the tests: each function is imported by its process."""

from pagewarden.live.host_side import HostSide
from pagewarden.vocab import PrivateAccess


def peek(host: HostSide) -> None:
    """Report the first 8 bytes of each page it is told, or the offending offset."""
    while (page := host.listen()) >= 0:
        try:
            host.report(0, host.read(page * 4096, 8))
        except PrivateAccess as refusal:
            host.report(1, str(refusal.offset).encode())
