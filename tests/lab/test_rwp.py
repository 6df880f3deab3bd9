"""The backing that needs Linux 7.3, there: its tests run inside, and the law says what the kernel did."""

import json
import os
import sys

import pytest

from kernels import SAME_CPU, bootable, x86
from pagewarden.lab import fetch, qemu

ENOUGH = 1800.0
COMMANDS = """
status=0
python="$1"
shift
"$python" -m pytest -q -p no:cacheprovider "$@" -k "(rwp or auto) and not instruction" >&2 || status=1
"$python" -m pagewarden probe --json --timeout 120 --backing uffd-rwp --path load --path "userfaultfd-un*" || status=1
exit $status
"""
TESTS = ["private", "contract"]
LONG = ["faults", "lifetime"] if os.environ.get("PAGEWARDEN_LONG") == "1" else []
"""Of tests/memory; the second take minutes inside. What the probe finds is recorded as a whole (tests/lab/recorded)."""


@pytest.fixture(scope="module")
def kernel() -> fetch.Kernel:
    return bootable("debian:7.3", x86)


def test_pages_are_shut_by_protection_where_the_kernel_has_it(kernel: fetch.Kernel) -> None:
    tests = [f"tests/memory/test_{name}.py" for name in (*TESTS, *LONG)]
    answer = qemu.run(kernel, ["/bin/sh", "-c", COMMANDS, "sh", sys.executable, *tests], ENOUGH, SAME_CPU)
    assert answer.status == 0, answer.stderr + answer.stdout[-2000:]
    summary = answer.stderr.strip().splitlines()
    assert "failed" not in answer.stderr and any("[100%]" in line for line in summary)
    found = json.loads(answer.stdout)
    assert (found["disagreements"], found["untried"], found["timeouts"]) == (0, 0, 0)
    assert {trial["backing"] for trial in found["matrix"]} == {"uffd-rwp"} and found["leaks"]
