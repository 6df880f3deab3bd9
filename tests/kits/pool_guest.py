"""A stock guest whose DMA bounces, under loads: what its kernel said of its pool, and its trace of it."""

import gzip
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pagewarden.lab import fetch, qemu
from pagewarden.sim.swiotlb import granted, replay
from pagewarden.workload.dma_mappings import SLOT, DmaMappings
from pagewarden.workload.driver import VirtioBlk
from pagewarden.workload.traces import dma

INSIDE = Path(__file__).parent.parent / "lab" / "guest" / "dma_loads.py"
RECORDED = Path(__file__).parent.parent / "sim" / "recorded"
MESSAGE = re.compile(r"full \(sz: (\d+) bytes\), total (\d+) \(slots\), used (\d+)")
TOGETHER = VirtioBlk(contiguous=2 << 20)
"""Huge pages, as the buffers of the loads `driver-*` lie in."""
LIMIT = 900.0
"""Seconds for a boot and its loads, beside busy neighbours."""
DISK = (
    "-blockdev driver=null-co,node-name=load,size=1073741824,read-zeroes=on,latency-ns=1000000 "
    "-device virtio-blk-pci,drive=load,iommu_platform=on,disable-legacy=on,addr=0x1a,num-queues={cpus}"
)
"""Behind a latency, so that requests pile up; at an address that leaves the other disks their names."""


@dataclass(frozen=True, slots=True)
class PoolBoot:
    """How the guest is booted, and fio's options for each load by name."""

    slots: int
    areas: int
    cpus: int
    loads: dict[str, str]


@dataclass(frozen=True, slots=True)
class Said:
    """Of one load: the pool as it was, its first address, most slots used, messages of a full pool, and the trace."""

    name: str
    kernel: str
    slots: int
    areas: int
    cpus: int
    base: int
    peak: int
    full: list[str]
    trace: str


MIXED = "--bsrange=4k-{most} --rw=randrw --iodepth={depth} --number_ios={count}"
PLAIN = "--bs={size} --rw={way} --iodepth={depth} --number_ios={count}"
BOOTS = (
    PoolBoot(4096, 1, 1, {
        "4k-alone": PLAIN.format(size="4k", way="randread", depth=1, count=20),
        "4k-deep": PLAIN.format(size="4k", way="randread", depth=32, count=60),
        "4k-writes": PLAIN.format(size="4k", way="randwrite", depth=16, count=40),
        "64k-reads": PLAIN.format(size="64k", way="randread", depth=8, count=30),
        "1m-writes": PLAIN.format(size="1m", way="write", depth=4, count=10),
        "mixed-ample": MIXED.format(most="256k", depth=16, count=40),
        "jobs-4": PLAIN.format(size="8k", way="randread", depth=8, count=20) + " --numjobs=4",
    }),
    PoolBoot(512, 1, 1, {
        "4k-full": PLAIN.format(size="4k", way="randread", depth=128, count=130),
        "64k-full": PLAIN.format(size="64k", way="randwrite", depth=16, count=40),
        "128k-two": PLAIN.format(size="128k", way="randread", depth=2, count=12),
        "mixed-full": MIXED.format(most="256k", depth=16, count=40),
        "jobs-2-full": PLAIN.format(size="32k", way="randread", depth=16, count=30) + " --numjobs=2",
    }),
    PoolBoot(1024, 2, 1, {
        "areas-4k": PLAIN.format(size="4k", way="randread", depth=32, count=60),
        "areas-spill": PLAIN.format(size="64k", way="randread", depth=20, count=40),
        "areas-mixed-full": MIXED.format(most="256k", depth=24, count=50),
        "areas-1m": PLAIN.format(size="512k", way="write", depth=2, count=8),
        "areas-jobs": PLAIN.format(size="16k", way="randwrite", depth=16, count=20) + " --numjobs=3",
    }),
    PoolBoot(128, 1, 1, {
        "smallest-4k": PLAIN.format(size="4k", way="randread", depth=4, count=20),
        "smallest-4k-full": PLAIN.format(size="4k", way="randread", depth=64, count=80),
        "smallest-64k-full": PLAIN.format(size="64k", way="randwrite", depth=4, count=20),
        "smallest-mixed-full": MIXED.format(most="64k", depth=8, count=30),
    }),
    PoolBoot(256, 2, 1, {
        "two-segments-full": PLAIN.format(size="16k", way="randread", depth=32, count=60),
        "two-segments-mixed-full": MIXED.format(most="128k", depth=8, count=30),
    }),
    PoolBoot(8192, 2, 2, {
        "cpus-jobs": PLAIN.format(size="4k", way="randread", depth=16, count=30) + " --numjobs=2",
        "cpus-mixed": MIXED.format(most="128k", depth=8, count=20) + " --numjobs=2",
    }),
    PoolBoot(16384, 1, 1, {
        f"driver-{way}-{size}": PLAIN.format(size=size, way=way, depth=1, count=4) + " --mem=shmhuge"
        for size in ("4k", "16k", "64k", "128k", "256k", "512k", "1m") for way in ("read", "write")
    } | {
        "driver-flush": PLAIN.format(size="4k", way="write", depth=1, count=4) + " --fsync=1 --mem=shmhuge",
        "driver-discard": PLAIN.format(size="64k", way="trim", depth=1, count=4),
    }),
)  # fmt: skip
"""Pools from too small to ample, with loads; then a request's mappings by its kind and size."""


def ask(kernel: fetch.Kernel, boot: PoolBoot) -> Iterator[Said]:
    """Boot it and run its loads; one of small requests goes round the whole pool first, to show where it begins."""
    around = f"--bs=4k --rw=randread --iodepth=4 --number_ios={boot.slots}"
    loads = {"around": around, **boot.loads} if boot.cpus == 1 else {"around": f"{around} --numjobs=2", **boot.loads}
    given = [{"name": name, "fio": ["--name=load", "--size=64m", *words.split()]} for name, words in loads.items()]
    answer = qemu.run(
        kernel, [sys.executable, str(INSIDE), "/dev/vdd", json.dumps(given)], LIMIT,
        shape=qemu.GuestShape(
            f"swiotlb={boot.slots},{boot.areas},force", boot.cpus, tuple(DISK.format(cpus=boot.cpus).split())
        ),
    )  # fmt: skip
    assert answer.status == 0, answer.stderr
    first, *rest = json.loads(answer.stdout)["loads"]
    addresses = [int(word[9:], 16) for word in first["trace"].split() if word.startswith("dma_addr=")]
    for said in rest:
        assert not said["error"], said["error"]
        yield Said(
            said["name"], answer.kernel, boot.slots, boot.areas, boot.cpus, min(addresses), said["peak"], said["full"],
            said["trace"],
        )  # fmt: skip


def record(found: Said) -> None:
    """Keep it for machines without QEMU."""
    RECORDED.mkdir(exist_ok=True)
    (RECORDED / f"{found.name}.json.gz").write_bytes(gzip.compress(json.dumps(asdict(found)).encode(), 9, mtime=0))


def recorded() -> list[Said]:
    """All that is kept."""
    return [Said(**json.loads(gzip.decompress(path.read_bytes()))) for path in sorted(RECORDED.glob("*.json.gz"))]


def mappings(said: Said, tmp_path: Path) -> DmaMappings:
    """The trace, read."""
    file = tmp_path / "trace"
    file.write_text(said.trace)
    return dma.read(file)


def as_the_kernel_said(said: Said, tmp_path: Path) -> None:
    """Peak, every place, every refusal and every message, as the kernel's own."""
    load, pool = mappings(said, tmp_path), granted(said.slots, said.areas)
    assert (pool.slots, pool.areas) == (said.slots, said.areas) and not load.lost
    found = replay(load, pool, said.base)
    assert found.used.max() == said.peak
    if said.cpus > 1:  # the order of lines is not that of locks
        return
    made = load.made
    assert np.array_equal(found.slot[made], (load.address[made] - np.uint64(said.base)) // np.uint64(SLOT))
    assert np.array_equal(found.refused, np.flatnonzero(load.failed))
    predicted = {(int(load.size[at]), int(found.used[at])) for at in found.refused}
    for line in said.full:
        ((size, total, used),) = [tuple(map(int, words)) for words in MESSAGE.findall(line)]
        assert total == said.slots and (size, used) in predicted


def expected(said: Said) -> list[tuple[int, int]]:
    """Size and direction of each mapping of four requests."""
    _, way, *size = said.name.split("-")
    if way == "discard":
        return TOGETHER.discard() * 4
    if way == "flush":
        return ((TOGETHER.write(4096) + TOGETHER.flush()) * 4)[: -len(TOGETHER.flush())]  # none behind fio's last write
    length = int(size[0][:-1]) << {"k": 10, "m": 20}[size[0][-1]]
    return (TOGETHER.read(length) if way == "read" else TOGETHER.write(length)) * 4


def as_the_driver_maps(said: Said, tmp_path: Path) -> None:
    """Maps, unmaps and bounces, each, of four requests."""
    found = mappings(said, tmp_path)
    made = found.opens
    assert list(zip(found.size[made].tolist(), found.direction[made].tolist(), strict=True)) == expected(said)
    assert found.bounced.all() and not found.unmatched
    assert sorted(found.maker[~made].tolist()) == np.flatnonzero(made).tolist(), "each ends once"
