"""What a run is to do: the requests, and the guest program that makes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pagewarden.abi.virtio_blk import SECTOR
from pagewarden.designs import DESIGNS, WITH_PROPOSED
from pagewarden.guest import pattern
from pagewarden.guest.program import Program, program
from pagewarden.keep.seal import Sealer
from pagewarden.studies.run.disk import Bytes, DiskFile, columns
from pagewarden.vocab import UserMistake, one_of
from pagewarden.workload import Workload

REQUESTS = 256
"""Requests of the default mix."""
DISK = 16 << 20
"""Bytes of the disk that the default mix is spread over."""
SIZES = (4 << 10, 4 << 10, 16 << 10, 64 << 10)
"""Bytes of its requests, each as likely as another."""
DEEPEST = 64
"""Requests that one doorbell may announce."""
CPUS = ("auto", "unicorn", "kvm", "interpreted")
BY_FD = ("remap", "pread", "splice")
"""Designs whose host half needs the memory's fd."""
BY_FILE_CALLS = ("pread", "splice")
"""Those of them that read and write it as a file."""


@dataclass(frozen=True)
class RunPlan:
    """How the guest runs. batch: requests a doorbell. patience: seconds that it may run without a word. every: the
    backing has to do for every design. core: a core dump is searched, too. limit: bytes of private pages that may be
    resident, the others lie sealed in the file `swap`. snapshot: the guest is sealed into it half way, and stops;
    restore: it goes on from there; key: the file with their key."""

    design: str = "window"
    backing: str = "auto"
    cpu: str = "auto"
    isolated: bool = False
    verify: bool = False
    batch: int = 1
    patience: float = 10.0
    every: bool = False
    core: bool = True
    limit: int | None = None
    swap: Path | None = None
    snapshot: Path | None = None
    restore: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        one_of("CPU", self.cpu, CPUS)
        if self.design in WITH_PROPOSED and self.design not in DESIGNS:
            raise UserMistake(f"{self.design} is proposed, and no guest has it yet; compare and check know it")
        object.__setattr__(self, "design", one_of("design", self.design, DESIGNS))
        if (self.limit is None) != (self.swap is None):
            raise UserMistake("--limit and --swap go together: how much may be resident, and where the rest goes")
        if (self.snapshot or self.restore) is not None and self.key is None:
            raise UserMistake(
                "--snapshot and --restore need --key FILE: 32 bytes, which --snapshot makes where none are"
            )
        if self.snapshot is not None and (self.restore is not None or self.verify):
            raise UserMistake(
                "--snapshot stops half way: --restore and --verify are for the run that goes on from there"
            )
        if self.kept and ((self.isolated and (self.snapshot or self.restore)) or self.cpu == "interpreted"):
            raise UserMistake(
                "--limit, --snapshot and --restore need a real CPU, the last two a cooperating host as well: leave out "
                "interpreted, or --isolated"
            )
        if self.isolated and self.design in BY_FD:
            raise UserMistake(
                f"{self.design} needs the fd of the memory, which an isolated host side does not have; "
                "window, iommu, bounce and dma-buffer do without"
            )
        if self.kept:
            Sealer()  # what it lacks is said before anything is made

    @property
    def kept(self) -> bool:
        """Its memory's pages may be away."""
        return self.limit is not None or self.snapshot is not None or self.restore is not None


def default_mix(requests: int = REQUESTS, seed: int = 1) -> Workload:
    """Reads and writes of 4 to 64 KiB, as many of the one as of the other, anywhere on a small disk."""
    draw = np.random.default_rng(seed)
    length = draw.choice(SIZES, requests).astype(np.uint32)
    offset = draw.integers(0, (DISK - length) // SIZES[0] + 1) * SIZES[0]
    return Workload(
        name="default mix",
        format="drawn",
        write=draw.integers(0, 2, requests).astype(bool),
        offset=offset.astype(np.uint64),
        length=length,
        depth=8,
    )


def first(workload: Workload, requests: int | None) -> Workload:
    """The workload's first requests, or all of them."""
    return workload if requests is None else workload.part(slice(requests))


def describe(plan: RunPlan, workload: Workload, disk: DiskFile, content: Bytes) -> Program:
    """The guest program; content: what the disk holds now, packed. UserMistake for what no guest can do."""
    offset, length = columns(workload)
    sectors = disk.extents.packed(offset) // SECTOR  # only the touched sectors have an expectation
    made = program(plan.design, workload.write, sectors, length, pattern.sectors(content.tobytes()), batch=plan.batch)
    made.requests["sector"] = offset // SECTOR
    return made


def replayed(described: Program, disk: DiskFile, content: Bytes) -> Bytes:
    """What the disk holds after the program's requests, if it held `content` before; packed."""
    after = content.copy()
    writes = described.requests[described.requests["write"] == 1]
    places = disk.extents.packed(writes["sector"].astype(np.int64) * SECTOR)
    for at, request in zip(places.tolist(), writes, strict=True):
        length = int(request["length"])
        after[at : at + length] = np.frombuffer(pattern.fill(int(request["word"]), length), np.uint8)
    return after
