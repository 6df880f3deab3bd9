"""The backing that needs Linux 7.3, there: its tests run inside, and the law says what the kernel did."""

import json
import os
import sys

import pytest

from pagewarden.lab import fetch, initramfs, qemu
from pagewarden.vocab import Unavailable

ENOUGH = 1800.0
COMMANDS = """
status=0
python="$1"
"$python" -m pytest -q -p no:cacheprovider tests/memory/test_private.py tests/memory/test_contract.py \\
    tests/memory/test_faults.py tests/memory/test_lifetime.py -k "rwp or auto" >&2 || status=1
"$python" -m pagewarden probe --json --timeout 120 --backing uffd-rwp \\
    --path load --path "userfaultfd-*" --path "vmsplice*" --path "fork*" --path "madvise-d*" --path mprotect || status=1
exit $status
"""


@pytest.fixture(scope="module")
def kernel() -> fetch.Kernel:
    """Linux 7.3; a skip with the reason where it cannot be booted, or a failure where PAGEWARDEN_REQUIRE_LAB=1."""
    try:
        if lack := qemu.lack():
            raise Unavailable("no kernel can be booted here", lack)
        initramfs.busybox()
        return fetch.kernel("debian:7.3")
    except Unavailable as missing:
        if os.environ.get("PAGEWARDEN_REQUIRE_LAB") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def test_pages_are_shut_by_protection_where_the_kernel_has_it(kernel: fetch.Kernel) -> None:
    answer = qemu.run(kernel, ["/bin/sh", "-c", COMMANDS, "sh", sys.executable], ENOUGH)
    assert answer.status == 0, answer.stderr + answer.stdout[-2000:]
    summary = answer.stderr.strip().splitlines()
    assert "failed" not in answer.stderr and any("[100%]" in line for line in summary)
    found = json.loads(answer.stdout)
    assert (found["disagreements"], found["untried"], found["timeouts"]) == (0, 0, 0)
    assert {trial["backing"] for trial in found["matrix"]} == {"uffd-rwp"} and found["leaks"]
