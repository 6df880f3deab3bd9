"""The programs of examples/ run as a reader would run them, and say what their first lines promise."""

import hmac
import os
import socket
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from iommu_front import IommuFrontEnd, TurnedView
from live import require
from pagewarden.memory import PAGE_SIZE, PrivateMemory
from pagewarden.virtio.driver import Driver
from pagewarden.virtio.ring import Ring
from waits import SOON

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def said(program: str) -> list[str]:
    found = subprocess.run([sys.executable, EXAMPLES / program], capture_output=True, text=True, timeout=SOON)
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_there_are_no_others() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "own_design.py", "own_device.py", "own_prices.py", "own_worker.py", "private_memory.py",
        "random_device.py",
    }  # fmt: skip


@pytest.mark.parametrize("program", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_each_fits_on_a_screen(program: Path) -> None:
    assert 20 <= len(program.read_text().splitlines()) <= 45


def available(isolated: bool) -> None:
    PrivateMemory(PAGE_SIZE, isolated=isolated).close()


def test_private_memory() -> None:
    available(isolated=False)
    lines = said("private_memory.py")
    assert lines[0].startswith("backing ")
    assert lines[1:] == [
        "private: the host may not read byte 0",
        "shared: the host reads b'a payload'",
        "9 bytes went to the file",
        "private again; shared pages: []",
    ]


def test_own_design() -> None:
    lines = said("own_design.py")
    hops = dict(line.split()[:2] for line in lines[:3])
    assert hops == {"bounce": "4", "window": "8", "polled": "4"}
    assert len(lines) > 10 and all(line.endswith(": holds") for line in lines[3:])


def test_own_prices() -> None:
    lines = said("own_prices.py")
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == ["as published", "with mine"]
    before, after = (int(line.split(" from ")[1].split()[0]) for line in lines if line.startswith("  window"))
    assert after < before


def test_own_device() -> None:
    available(isolated=True)
    assert said("own_device.py") == [
        f"page 0: CRC {zlib.crc32(b'x' * PAGE_SIZE).to_bytes(4, 'little').hex()}",
        "page 1: refused, it is private",
        "the device ended with status 0",
    ]


def test_own_worker() -> None:
    available(isolated=True)
    signed = hmac.digest(b"secret", b"I owe you a page", "sha256").hex()
    assert said("own_worker.py") == [
        "'I owe you a page' is signed, the worker ended with status 0",
        f"in the file: {signed}",
    ]


def test_random_device(tmp_path: Path) -> None:
    """A front end with an IOMMU has two buffers filled, by a device that sees no other page."""
    require(os.geteuid() == 0, "whether the device's process closed a page is for root to see")
    available(isolated=True)
    path, words = tmp_path / "socket", [sys.executable, str(EXAMPLES / "random_device.py")]
    with (
        PrivateMemory(64 * PAGE_SIZE, "memfd", shared=True) as memory,
        subprocess.Popen([*words, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as device,
    ):
        try:
            assert device.stderr is not None and "serving" in device.stderr.readline()
            turned, ring = TurnedView(memory.window), Ring.placed(16, PAGE_SIZE)
            driver = Driver(turned, ring, event_idx=True)  # type: ignore[arg-type]
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                with closing(IommuFrontEnd(connection, memory, turned.page)) as front:
                    queue, found = front.start(0, ring), set()
                    for buffer in (2 * PAGE_SIZE, 4 * PAGE_SIZE):
                        driver.ask_interrupt()
                        driver.add_chain([], [(buffer, 64)])
                        driver.publish()
                        queue.kick()
                        while not driver.reap():
                            queue.wait()
                        found.add(turned.read(buffer, 64))
                    assert len(found | {bytes(64)}) == 3
            device.terminate()
            out, _ = device.communicate(timeout=SOON)
        finally:
            device.kill()
    assert device.returncode == 0 and out.startswith("2 requests, 128 bytes, 3 pages open at most, 0 refused")
    assert out.endswith("of which 0 answered\n")
