"""One command inside another kernel: QEMU, the host's root read-only through virtiofs, the answer on a disk.

The guest is not trusted: it is given the host's files to read and three files of its own to write. The KVM that it
finds is the one that real AMD machines have, on SVM as QEMU emulates it.
"""

import io
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from platform import machine

from pagewarden.lab import MACHINE, initramfs
from pagewarden.lab.fetch import Kernel
from pagewarden.lab.machine import CONSOLE, last_lines, process, tail, watch
from pagewarden.lab.packages import Tell
from pagewarden.vocab import Advance, Unavailable

QEMU = "qemu-system-x86_64"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
DISK, ANSWER, MEMORY = 2 << 30, 64 << 20, "2G"
"""Bytes of the disk for TMPDIR (sparse) and of the answer at most; the guest's memory."""
APPEND = "console=ttyS0 panic=-1 loglevel=4 mitigations=off nokaslr secretmem.enable=1 no_timer_check"
"""The last: a kernel that is not told by its hypervisor waits ten ticks for its timer, which comes late from a host
without time to spare, and panics then (arch/x86/kernel/apic/io_apic.c, check_timer)."""
KEPT = ("PATH", "HOME", "LANG", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")
"""What a command inside has of this environment: it finds what is installed and what is compiled."""
SHARE = """set -e; root=$1; shift
for place; do mount --bind "$place" "$root$place"; mount -o remount,bind,ro "$root$place"; done
exec {virtiofsd} --socket-path="$root.sock" -o source="$root" -o cache=always -o sandbox=chroot --thread-pool-size=4
"""
"""In a mount namespace of its own: the places that the guest may read, none of them writable, not even by virtiofsd."""


@dataclass(frozen=True, slots=True)
class GuestShape:
    """What a guest has more than usual: words of its kernel's command line, virtual CPUs, words of QEMU's."""

    append: str = ""
    cpus: int = 1
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """What a command inside came to; kernel: the version that ran, as uname says."""

    kernel: str
    status: int
    stdout: str
    stderr: str


def lack() -> str:
    """What this machine lacks to boot a kernel, and how to get it; "" when it can."""
    if machine() != MACHINE:
        return f"the lab boots {MACHINE} kernels, and this is {machine()}"
    if os.geteuid() != 0:
        return "the host's root is shared by virtiofsd, which needs root"
    needed = {
        QEMU: "qemu-system-x86",
        VIRTIOFSD: "qemu-system-common",
        "mkfs.ext4": "e2fsprogs",
        "unshare": "util-linux",
    }
    missing = [package for program, package in needed.items() if shutil.which(program) is None]
    return f"apt-get install {' '.join(missing)}" if missing else ""


def run(
    kernel: Kernel,
    command: Sequence[str],
    seconds: float,
    environment: Mapping[str, str] | None = None,
    say: Tell = lambda what: None,
    shape: GuestShape = GuestShape(),
    progress: Advance | None = None,
) -> CommandEnd:
    """Boot the kernel, run a command of this machine's inside as root, in this directory, and bring back what it said.

    Unavailable where it cannot be booted, where it dies on the way (with the console's last lines) or takes longer than
    that. progress: called with what the command says on the console (machine.HOW_FAR). Nothing is left running or lying
    about, however it ends.
    """
    if reason := lack():
        raise Unavailable("no kernel can be booted here", reason)
    with ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="pagewarden-lab-")))
        (place / "initramfs").write_bytes(initramfs.build(kernel.modules))
        _disks(place, script(command, {"TMPDIR": "/mnt/disk", **(environment or {})}))
        say(f"booting {kernel.name}")
        opened.enter_context(_shared_root(place))
        watch(_qemu(kernel, place, shape), place, kernel.name, seconds, progress)
        return _answer(kernel, place)


def script(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """A shell script that does the command in this directory."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    names = [f"export {name}={shlex.quote(value)}\n" for name, value in {**kept, **environment}.items()]
    return f"{''.join(names)}cd {shlex.quote(os.getcwd())}\nexec {shlex.join(command)}\n"


def _disks(place: Path, command: str) -> None:
    for name, size in (("disk", DISK), ("answer", ANSWER)):
        with (place / name).open("wb") as file:
            file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", place / "disk"], check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(place / "command", "w") as archive:
        entry = tarfile.TarInfo("command")
        entry.size = len(command.encode())
        archive.addfile(entry, io.BytesIO(command.encode()))
    os.truncate(place / "command", max(1 << 20, (place / "command").stat().st_size))


def _qemu(kernel: Kernel, place: Path, shape: GuestShape) -> list[str]:
    disks = [
        f"file={place / name},if=virtio,format=raw,cache=unsafe{more}"
        for name, more in (("disk", ""), ("command", ",readonly=on"), ("answer", ""))
    ]
    return [
        QEMU, "-accel", "tcg,thread=multi", "-machine", "q35,memory-backend=memory", "-cpu", "EPYC,+svm,-monitor",
        "-smp", str(shape.cpus), "-m", MEMORY, "-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on",
        "-no-user-config", "-nodefaults", "-nic", "none", "-display", "none", "-no-reboot",
        "-serial", f"file:{place / CONSOLE}", *(word for disk in disks for word in ("-drive", disk)),
        "-chardev", f"socket,id=root,path={place / 'root.sock'}", "-device", "vhost-user-fs-pci,chardev=root,tag=root",
        "-kernel", str(kernel.image), "-initrd", str(place / "initramfs"), "-append",
        f"{APPEND} {shape.append}".rstrip(), *shape.words,
    ]  # fmt: skip


@contextmanager
def _shared_root(place: Path) -> Iterator[None]:
    """virtiofsd for the host's root, at root.sock."""
    root, log = place / "root", place / "virtiofsd.log"
    root.mkdir()
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SHARE.format(virtiofsd=VIRTIOFSD), "sh"]
    with log.open("wb") as output, process([*words, str(root), *readable_places()], output) as server:
        while not (place / "root.sock").exists():
            if server.poll() is not None:
                raise Unavailable(f"virtiofsd ended: {tail(log)}", "see what it says; it needs to mount and chroot")
            time.sleep(0.02)
        yield


def readable_places() -> list[str]:
    """The root and what else is mounted of a disk's: no /proc, /sys or /dev, whose files are the running kernel's."""
    places = ["/"]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        where, source = fields[4], fields[fields.index("-") + 2]
        if source.startswith("/dev/") and where != "/" and os.path.isdir(where):
            places.append(where)
    return list(dict.fromkeys(places))


def _answer(kernel: Kernel, place: Path) -> CommandEnd:
    try:
        with tarfile.open(place / "answer", "r:") as archive:
            said = {entry.name: _content(archive, entry) for entry in archive}
        return CommandEnd(said["kernel"].strip(), int(said["status"]), said["stdout"], said["stderr"])
    except (tarfile.TarError, KeyError, ValueError) as nothing:
        raise Unavailable(
            f"{kernel.name} died before it answered{last_lines(place)}",
            "is it for this machine, with virtiofs and ext4?",
        ) from nothing


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    file = archive.extractfile(entry)
    return file.read().decode(errors="replace") if file else ""
