"""A VMM that restores a snapshot by Firecracker's page-fault protocol, in a process of its own: it hands its memory
over and does what it is told in lines, `read PAGE`, `write PAGE`, `drop FIRST STOP`; each is answered in a line."""

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pagewarden.abi import memory as uapi
from pagewarden.abi import uffd
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import PAGE_SIZE

FEATURES = uffd.UFFD_FEATURE_EVENT_REMOVE


def hand_over(place: str, message: bytes, fds: Sequence[int]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(place)
    socket.send_fds(connection, [message], list(fds))
    return connection


class PlainVmm:
    """The same, from the outside."""

    def __init__(self, place: Path, *regions: tuple[int, int]) -> None:
        """regions: first page of the snapshot and number of pages."""
        words = [str(number) for region in regions for number in region]
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(place), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, *words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def ask(self, *words: Any) -> str:
        self.tell(*words)
        return self.line()

    def read(self, page: int) -> bytes:
        return bytes.fromhex(self.ask("read", page))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.communicate()


def main(place: str, numbers: list[int]) -> None:
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    fault = Userfault(FEATURES)
    regions, message = {}, []
    for first, count in pairs:
        region = Region(count * PAGE_SIZE)
        region.fill()
        region.advise(uapi.MADV_NOHUGEPAGE, 0, region.size)
        fault.register(region.address, region.size, uffd.UFFDIO_REGISTER_MODE_MISSING)
        regions[first] = region
        message.append(
            {"base_host_virt_addr": region.address, "size": region.size, "offset": first * PAGE_SIZE,
             "page_size": PAGE_SIZE, "page_size_kib": PAGE_SIZE}
        )  # fmt: skip
    connection = hand_over(place, json.dumps(message).encode(), [fault.fd])
    print("ready", flush=True)
    for line in sys.stdin:
        verb, page, *rest = line.split()
        first = max(first for first in regions if first <= int(page))
        at = (int(page) - first) * PAGE_SIZE
        if verb == "read":
            print(regions[first].memory[at : at + PAGE_SIZE].hex(), flush=True)
        elif verb == "write":
            regions[first].memory[at : at + 5] = b"guest"
            print("done", flush=True)
        elif verb == "drop":
            regions[first].advise(uapi.MADV_DONTNEED, at, (int(rest[0]) - int(page)) * PAGE_SIZE)
            print("done", flush=True)
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], list(map(int, sys.argv[2:])))
