"""Reading traces: CPU seconds for a million lines of each form. `python bench/traces.py [LINES]`

The peer cuts the same lines into words with bytes.split and does nothing with them, the least that a reader in plain
Python does. Each form is read once before, so that compiled code is there; of three rounds by turns the least counts.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pagewarden.workload.load import load_any
from tools import row

LINES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
FORMS = {
    "blkparse text": (
        "  8,0    1 {at:8} {at:12}.000000001   697  D   R {sector} + {count} [fio]\n",
        "  8,0    1 {at:8} {at:12}.000000001   697  C   R {sector} + {count} [0]\n",
    ),
    "block events, ftrace": (
        "     fio-1201    [001] d..1.   {at}.000001: block_rq_issue: 8,0 R 4096 () {sector} + {count} none,0,0 [fio]\n",
        "     fio-1201    [001] d..1.   {at}.000001: block_rq_complete: 8,0 R () {sector} + {count} none,0,0 [0]\n",
    ),
    "block events, perf script": (
        "fio  1201 [001]   {at}.000001:   block:block_rq_issue: 8,0 R 4096 () {sector} + {count} none,0,0 [fio]\n",
        "fio  1201 [001]   {at}.000001:   block:block_rq_complete: 8,0 R () {sector} + {count} none,0,0 [0]\n",
    ),
    "DMA mappings, ftrace": (
        "     dd-172     [000] d..1.     {at}.256422: dma_map_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr={sector:x} "
        "size={count} phys_addr=5000 attrs=\n",
        "     dd-172     [000] d..1.     {at}.256422: dma_unmap_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr={sector:x} "
        "size={count} attrs=\n",
    ),
}


def trace(path: Path, begins: str, ends: str) -> None:
    """32 in flight, of sizes and at places that are drawn; as many beginnings as ends."""
    draw = random.Random(1)
    flying: list[dict[str, int]] = []
    with path.open("w") as file:
        for at in range(LINES):
            if len(flying) < 32 and at < LINES - len(flying):
                flying.append({"sector": 8 * draw.randrange(1 << 27), "count": 8 << draw.randrange(5)})
                file.write(begins.format(at=at, **flying[-1]))
            else:
                file.write(ends.format(at=at, **flying.pop(draw.randrange(len(flying)))))


def cut(path: Path) -> None:
    """The peer."""
    with path.open("rb") as file:
        for line in file:
            line.split()


def spent(run: Callable[[Path], Any], path: Path) -> float:
    start = time.process_time()
    run(path)
    return time.process_time() - start


with tempfile.TemporaryDirectory() as folder:
    row(f"{LINES:,} lines", "CPU s", "split, CPU s", "ratio")
    for form, lines in FORMS.items():
        path = Path(folder) / "trace"
        trace(path, *lines)
        load_any(path)
        rounds = [(spent(load_any, path), spent(cut, path)) for _ in range(3)]
        ours, peer = (min(each) for each in zip(*rounds, strict=True))
        row(form, ours, peer, f"{ours / peer:.2f}")
