"""Requests a second of served disks under one stock guest: `python bench/serve.py [SECONDS [SIZES [DEPTHS]]]`

Random direct reads by fio inside a guest of QEMU's TCG, of one file, through QEMU's storage daemon, the peer, and
`pagewarden serve blk`: in a boot with an IOMMU by `--mode open` and `iommu`, and by `single`, which is `iommu` that
asks QEMU for one page after the other; in one with swiotlb=force by `open` and `pool`, where the guest bounces for all
three (vhost_user.bouncing makes the daemon one that offers it), so that its own copies are in every row. All of a boot
are there from its start and take turns in each row. CPU: microseconds of all processes of the back end for a request,
by /proc, looked at while the guest pauses. The ratios are to the daemon of the same boot, and to what the last column
names: `pool` to `open` is the price of the guard, `iommu` to `single` what asking for all pages at once is worth.
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
from vhost_user import bouncing, storage_daemon

sys.path.append(str(Path(__file__).parents[1] / "tests" / "kits"))

from served_guest import BEHIND_IOMMU, serving

KERNEL = os.environ.get("PAGEWARDEN_LAB_KERNEL", "debian:6.12")
SIZES, DEPTHS, SECONDS = (4096, 65536, 1 << 20), (1, 8), 3.0
BOOTS = {
    "intel_iommu=on iommu.strict=1 iommu.passthrough=0": ("daemon", "open", "iommu", "single"),
    "swiotlb=force": ("daemon", "open", "pool"),
}
"""The kernel's words, and the back ends of its boot in the order of their disks: those on the root bus, then those
behind a port, by address each."""
OTHER = {"iommu": "single", "pool": "open"}
"""What else a row is compared with."""
BOUNCING = "swiotlb=force"
SINGLE = "from pagewarden.vhost import questions; questions.UNDER_WAY = 1; from pagewarden.__main__ import main; main()"
"""The program of `serve`, with one question to QEMU at a time."""
FIRST = ord("d")
"""Letter of the first of those disks."""
ADDRESSES = {"daemon": 0x19, "open": 0x1A, "pool": 0x1B, "single": 0x1C}
FILE, WARM = 256 << 20, 128 << 20
"""Bytes of the disk, and those that are read before all parts, in a boot that bounces: a pool's pages, 64 MiB, are
opened when they are first used."""
PAUSE = 1.5
"""Seconds that the guest waits before each part: the host looks at it every half (lab.machine.LOOK)."""
Part = tuple[str, int, int]
"""A back end, bytes of a request, requests at once."""


def read(path: str, size: int, *words: str) -> dict[str, float]:
    """In the guest: what fio says of reading a disk by requests of this size."""
    fio = ["fio", "--name=j", "--direct=1", "--ioengine=libaio", "--output-format=json", "--iomem=shmhuge", *words]
    said = subprocess.run([*fio, f"--bs={size}", f"--filename={path}"], check=True, capture_output=True).stdout
    found: dict[str, float] = msgspec.json.decode(said[said.index(b"{") :])["jobs"][0]["read"]
    return found


def inside(seconds: float, parts: list[Part], disks: dict[str, str]) -> None:
    """In the guest: each part by fio; prints requests a second of each."""
    found = []
    Path("/proc/sys/vm/nr_hugepages").write_text("8")  # buffers whose pages lie together
    for path in disks.values() if "pool" in disks else ():
        read(path, 1 << 20, "--rw=read", f"--size={WARM}")
    for number, (name, size, depth) in enumerate([*parts, parts[-1]]):
        with open("/dev/console", "w") as console:
            console.write(f"pagewarden: {number} of {len(parts)}\n")
        time.sleep(PAUSE)
        if number < len(parts):
            words = "--rw=randread", "--randrepeat=1", "--time_based", "--size=100%"
            did = read(disks[name], size, *words, f"--iodepth={depth}", f"--runtime={seconds}")
            found.append((did["iops"], did["total_ios"]))
    print(msgspec.json.encode(found).decode())


def spent(root: int) -> int:
    """Nanoseconds of CPU of a process and all below it, by schedstat: most of what is done takes less than a tick."""
    used = 0
    for task in Path(f"/proc/{root}/task").iterdir():
        with contextlib.suppress(OSError):
            used += int((task / "schedstat").read_text().split()[0])
            used += sum(spent(int(child)) for child in (task / "children").read_text().split())
    return used


def words_of(name: str, append: str) -> list[str]:
    """QEMU's words for the device of a back end."""
    if name == "iommu":
        return BEHIND_IOMMU
    device, more = f"vhost-user-blk-pci,chardev={name},num-queues=1", f",addr={ADDRESSES[name]:#x}"
    if name == "single":
        port = ["-device", "pcie-root-port,id=rp1,slot=3" + more]
        return [*port, "-device", f"{device},bus=rp1,iommu_platform=on,ats=on,disable-legacy=on"]
    if append == BOUNCING:
        more += ",iommu_platform=on,disable-legacy=on"
    return ["-device", device + more]


@contextlib.contextmanager
def back_ends(place: Path, names: tuple[str, ...], append: str) -> Iterator[tuple[list[str], dict[str, int]]]:
    """QEMU's words for them, and their processes."""
    file = place / "disk"
    file.write_bytes(os.urandom(1 << 20) * (FILE >> 20))
    with contextlib.ExitStack() as opened:
        words, processes = [], {}
        for name in names:
            if name == "daemon":
                path = opened.enter_context(storage_daemon(file, False, "threads"))
                found = subprocess.run(["pgrep", "-nx", "qemu-storage-da"], check=True, capture_output=True).stdout
                processes[name] = int(found)
            else:
                program = ("-c", SINGLE) if name == "single" else ("-m", "pagewarden")
                mode = "iommu" if name == "single" else name
                process, path = opened.enter_context(serving(file, place / name, mode, "--readonly", program=program))
                processes[name] = process.pid
            if append == BOUNCING and name == "daemon":
                path = opened.enter_context(bouncing(path))
            words += ["-chardev", f"socket,id={name},path={path}", *words_of(name, append)]
        yield words, processes


def main(seconds: float, sizes: list[int], depths: list[int]) -> None:
    for append, names in BOOTS.items():
        boot(append, names, seconds, [(name, size, depth) for size in sizes for depth in depths for name in names])


def boot(append: str, names: tuple[str, ...], seconds: float, parts: list[Part]) -> None:
    """One boot with these back ends, and its rows."""
    used: dict[int, dict[str, int]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-serve-") as place,
        back_ends(Path(place), names, append) as (words, running),
    ):

        def look(number: int, _: int) -> None:
            if number not in used:
                used[number] = {name: spent(pid) for name, pid in running.items()}

        disks = {name: f"/dev/vd{chr(FIRST + number)}" for number, name in enumerate(names)}
        command = [sys.executable, __file__, "--inside", msgspec.json.encode((seconds, parts, disks)).decode()]
        shape = qemu.GuestShape(append, words=tuple(words))
        end = qemu.run(fetch.kernel(KERNEL), command, 900.0 + 60 * len(parts), shape=shape, progress=look)
    if end.status:
        sys.exit(end.stderr)
    found = dict(zip(parts, msgspec.json.decode(end.stdout), strict=True))
    print(f"Linux {end.kernel}, {append}\n{'bytes':>22} depth  back end  requests/s   ratio  CPU us")
    for number, part in enumerate(parts):
        name, size, depth = part
        rate, done = found[part]
        seen = number + 1 in used
        cpu = f"{(used[number + 1][name] - used[number][name]) / 1e3 / max(1, done):8,.0f}" if seen else f"{'-':>8}"
        beside = OTHER.get(name)
        more = f"  {rate / found[beside, size, depth][0]:.3f} of {beside}" if beside else ""
        ratio = rate / found["daemon", size, depth][0]
        print(f"{size:>22,} {depth:>5}  {name:<8} {rate:>11,.1f}  {ratio:>6.3f} {cpu}{more}")


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
