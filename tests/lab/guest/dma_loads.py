"""Runs inside a guest: loads on its disk, each with its DMA events and what the kernel's bounce pool says of it.

Arguments: the disk, then loads as JSON, [{"name": ..., "fio": [...]}]. Prints {"slots": ..., "loads": [...]}.
"""

import json
import subprocess
import sys
from pathlib import Path

TRACING, POOL = Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/swiotlb")
EVENTS = ("dma/dma_map_page", "dma/dma_map_phys", "dma/dma_unmap_page", "dma/dma_unmap_phys", "swiotlb/swiotlb_bounced")
FIO = ["fio", "--direct=1", "--ioengine=libaio", "--randrepeat=1", "--minimal", "--thread", "--refill_buffers=0"]


def setup() -> None:
    """Events on, and a buffer that loses none."""
    (TRACING / "buffer_size_kb").write_text("65536")
    for event in EVENTS:
        if (TRACING / "events" / event).exists():
            (TRACING / "events" / event / "enable").write_text("1")
    Path("/proc/sys/vm/nr_hugepages").write_text("8")  # for loads whose buffers lie together (shmhuge)


def one(disk: str, words: list[str]) -> dict[str, object]:
    """Its trace, the most slots in use, and the kernel's complaints."""
    (TRACING / "tracing_on").write_text("0")
    (TRACING / "trace").write_text("")
    subprocess.run(["dmesg", "--clear"], check=True)
    before = int((POOL / "io_tlb_used").read_text())
    (POOL / "io_tlb_used_hiwater").write_text("0")
    (TRACING / "tracing_on").write_text("1")
    done = subprocess.run([*FIO, f"--filename={disk}", *words], capture_output=True, text=True)
    (TRACING / "tracing_on").write_text("0")
    full = [line for line in subprocess.run(["dmesg"], capture_output=True, text=True).stdout.splitlines()
            if "swiotlb buffer is full" in line]  # fmt: skip
    return {
        "before": before,
        "peak": int((POOL / "io_tlb_used_hiwater").read_text()),
        "full": full,
        "trace": (TRACING / "trace").read_text(),
        "error": done.stderr if done.returncode else "",
    }


def main() -> None:
    disk, loads = sys.argv[1], json.loads(sys.argv[2])
    setup()
    found = [{"name": load["name"], **one(disk, load["fio"])} for load in loads]
    print(json.dumps({"slots": int((POOL / "io_tlb_nslabs").read_text()), "loads": found}))


main()
