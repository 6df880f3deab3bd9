"""Requests a second of served disks under one stock guest: `python bench/serve.py [SECONDS [SIZES [DEPTHS]]]`

Random direct reads by fio inside a guest of QEMU's TCG, of one file through three back ends: `pagewarden serve blk
--mode open`, the same `--mode iommu`, and QEMU's storage daemon, the peer. All are there from the start of one boot and
take turns in each row. CPU: microseconds of all processes of the back end for a request, by /proc, looked at while the
guest pauses. The ratios are to the daemon.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pagewarden.lab import fetch, qemu
from vhost_user import storage_daemon

sys.path.append(str(Path(__file__).parents[1] / "tests" / "kits"))

from served_guest import BEHIND_IOMMU, served

KERNEL = os.environ.get("PAGEWARDEN_LAB_KERNEL", "debian:6.12")
SIZES, DEPTHS, SECONDS = (4096, 65536, 1 << 20), (1, 8), 3.0
DISKS = {"daemon": "/dev/vdd", "open": "/dev/vde", "iommu": "/dev/vdf"}
FILE = 256 << 20
STRICT = "intel_iommu=on iommu.strict=1 iommu.passthrough=0"
PAUSE = 1.5
"""Seconds that the guest waits before each part: the host looks at it every half (lab.machine.LOOK)."""
TICK = 1e6 / os.sysconf("SC_CLK_TCK")
Part = tuple[str, int, int]
"""A back end, bytes of a request, requests at once."""


def inside(seconds: float, parts: list[Part]) -> None:
    """In the guest: each part by fio; prints requests a second of each."""
    found = []
    Path("/proc/sys/vm/nr_hugepages").write_text("8")  # buffers whose pages lie together
    for number, (name, size, depth) in enumerate([*parts, parts[-1]]):
        with open("/dev/console", "w") as console:
            console.write(f"pagewarden: {number} of {len(parts)}\n")
        time.sleep(PAUSE)
        if number < len(parts):
            words = [f"--bs={size}", f"--iodepth={depth}", f"--runtime={seconds}", f"--filename={DISKS[name]}"]
            fio = ["fio", "--name=j", "--rw=randread", "--direct=1", "--ioengine=libaio", "--time_based", "--size=100%",
                   "--output-format=json", "--randrepeat=1", "--iomem=shmhuge"]  # fmt: skip
            said = subprocess.run([*fio, *words], check=True, capture_output=True).stdout
            read = msgspec.json.decode(said[said.index(b"{") :])["jobs"][0]["read"]
            found.append((read["iops"], read["total_ios"]))
    print(msgspec.json.encode(found).decode())


def ticks(root: int) -> int:
    """CPU of a process and all below it, by /proc/PID/stat."""
    used = 0
    for task in Path(f"/proc/{root}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                used += ticks(int(child))
    user, system = Path(f"/proc/{root}/stat").read_text().rpartition(")")[2].split()[11:13]
    return used + int(user) + int(system)


@contextlib.contextmanager
def back_ends(place: Path) -> Iterator[tuple[list[str], dict[str, int]]]:
    """QEMU's words for the three, and their processes."""
    file = place / "disk"
    file.write_bytes(os.urandom(1 << 20) * (FILE >> 20))
    with (
        storage_daemon(file, False, "threads") as path,
        served(file, place, "open", "--readonly") as (plain, words),
        served(file, place, "iommu", "--readonly") as (guarded, more),
    ):
        daemon = int(subprocess.run(["pgrep", "-nx", "qemu-storage-da"], check=True, capture_output=True).stdout)
        devices = ["-chardev", f"socket,id=daemon,path={path}",
                   "-device", "vhost-user-blk-pci,chardev=daemon,addr=0x19,num-queues=1",
                   "-device", "vhost-user-blk-pci,chardev=open,addr=0x1a,num-queues=1", *BEHIND_IOMMU]  # fmt: skip
        yield [*words, *more, *devices], {"daemon": daemon, "open": plain.pid, "iommu": guarded.pid}


def main(seconds: float, sizes: list[int], depths: list[int]) -> None:
    parts = [(name, size, depth) for size in sizes for depth in depths for name in DISKS]
    used: dict[int, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as place, back_ends(Path(place)) as (words, processes):

        def look(number: int, _: int) -> None:
            if number not in used:
                used[number] = {name: ticks(pid) for name, pid in processes.items()}

        command = [sys.executable, __file__, "--inside", msgspec.json.encode((seconds, parts)).decode()]
        shape = qemu.GuestShape(STRICT, words=tuple(words))
        end = qemu.run(fetch.kernel(KERNEL), command, 900.0, shape=shape, progress=look)
    if end.status:
        sys.exit(end.stderr)
    found = dict(zip(parts, msgspec.json.decode(end.stdout), strict=True))
    print(f"Linux {end.kernel}; {'bytes':>8} depth  back end  requests/s   ratio  CPU us")
    for number, part in enumerate(parts):
        name, size, depth = part
        rate, done = found[part]
        seen = number + 1 in used
        cpu = f"{(used[number + 1][name] - used[number][name]) * TICK / max(1, done):8,.0f}" if seen else "-"
        print(f"{size:>22,} {depth:>5}  {name:<8} {rate:>11,.1f}  {rate / found['daemon', size, depth][0]:>6.3f} {cpu}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*msgspec.json.decode(sys.argv[2]))
    else:
        given = [*sys.argv[1:], *[""] * 3]
        main(
            float(given[0] or SECONDS),
            [int(each) for each in given[1].split(",") if each] or list(SIZES),
            [int(each) for each in given[2].split(",") if each] or list(DEPTHS),
        )
