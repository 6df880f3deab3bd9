"""The backing that needs Linux 7.3, there: its tests run inside, and the law says what the kernel did."""

import json
import os
import sys
from pathlib import Path

import pytest

from kernels import SAME_CPU, bootable, compile_here, x86
from pagewarden.lab import fetch, qemu

ENOUGH = 1800.0
COMMANDS = """
status=0
python="$1" size="$2"
shift 2
PYTHONPATH=tests/kits "$python" tests/kits/rwp_in_flight.py "$size" || status=1
"$python" -m pytest -q -p no:cacheprovider "$@" -k "(rwp or auto or isolated) and not instruction" >&2 || status=1
"$python" -m pagewarden probe --json --timeout 120 --backing uffd-rwp \\
    --path load --path "*-file" --path "userfaultfd-un*" || status=1
exit $status
"""
_ISOLATION = "memory/isolated/test_isolation.py::test_"
TESTS = [
    "memory/test_private.py",
    "memory/test_contract.py",
    "memory/isolated/test_protected.py",
    "keep/test_isolated.py",
    f"{_ISOLATION}the_host_side_sees_shared_pages_only",
    f"{_ISOLATION}what_the_host_writes_while_shared_stays_and_contents_are_kept",
    f"{_ISOLATION}every_way_around_is_refused_and_changes_nothing",
]
LONG = ["memory/test_faults.py", "memory/test_lifetime.py"]
"""They take minutes inside. What the probe finds is recorded as a whole (tests/lab/recorded)."""
SLOW_DISK = 4 << 20
"""Bytes of a disk that takes some seconds for a write after a long one."""
IN_FLIGHT = {
    "replace, O_DIRECT": "before",
    "protect, O_DIRECT": "after",
    "protect, write": "refused",
    "protect, read": "refused",
}
"""The second is why an untrusted host side's pages are replaced where it was handed something that pins, though they
could be protected: a write that is under way takes what the guest writes later."""


@pytest.fixture(scope="module")
def kernel() -> fetch.Kernel:
    return bootable("debian:7.3", x86)


def test_pages_are_shut_by_protection_where_the_kernel_has_it(kernel: fetch.Kernel, tmp_path: Path) -> None:
    (disk := tmp_path / "disk").touch()
    os.truncate(disk, SLOW_DISK)
    throttled = qemu.GuestShape(words=("-drive", f"file={disk},if=virtio,format=raw,throttling.bps-total=200000"))
    long = LONG if os.environ.get("PAGEWARDEN_LONG") == "1" else []
    files = [f"tests/{name}" for name in (*TESTS, *long)]
    compile_here(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", "(window or isolated) and not instruction"
    )
    words = [sys.executable, str(SLOW_DISK), *files]
    answer = qemu.run(kernel, ["/bin/sh", "-c", COMMANDS, "sh", *words], ENOUGH, SAME_CPU, shape=throttled)
    assert answer.status == 0, answer.stderr + answer.stdout[-2000:]
    summary = answer.stderr.strip().splitlines()
    assert "failed" not in answer.stderr and any("[100%]" in line for line in summary)
    in_flight, _, probed = answer.stdout.partition("\n")
    assert json.loads(in_flight) == IN_FLIGHT
    found = json.loads(probed)
    assert (found["disagreements"], found["untried"], found["timeouts"]) == (0, 0, 0)
    assert {trial["backing"] for trial in found["matrix"]} == {"uffd-rwp"} and found["leaks"]
    apart = {trial["result"] for trial in found["matrix"] if trial["isolated"]}
    assert apart == {"refused", "allowed"}, "what is shared answers, and nothing else does"
