"""An arm64 kernel with its hypervisor (pKVM) under QEMU: `pagewarden.probe.pkvm` runs inside, on a Python of Debian's.

The guest is not trusted: it is given three files of its own. It needs no privilege and nothing of this machine's files.
"""

import json
import py_compile
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pagewarden
from pagewarden.lab import initramfs, packages
from pagewarden.lab.fetch import Kernel
from pagewarden.lab.machine import CONSOLE, last_lines, watch
from pagewarden.lab.packages import Tell
from pagewarden.vocab import Advance, Unavailable

QEMU = "qemu-system-aarch64"
CPU = "cortex-a72"
"""One without VHE. On one with it the hypervisor runs with HCR_EL2.E2H set (hVHE), and QEMU before 8.2 keeps entries of
its TLB that were invalidated then (target/arm/helper.c, vae2_tlbmask): pages that the hypervisor has cleared still show
what was in them (seen with 7.2)."""
MEMORY, DISK, ANSWER = "1G", 16 << 20, 4 << 20
"""The guest's memory; bytes of a disk for direct I/O, and of the answer at most."""
APPEND = "console=ttyAMA0 kvm-arm.mode=protected panic=-1 quiet loglevel=4 rcupdate.rcu_expedited=1"
MODULES = ("virtio_blk", "brd")
PYTHONS = {(3, 11): "3.11", (3, 13): "3.13"}
"""Of Debian's releases. One of this Python's version is taken where there is one: it takes what is compiled here."""
LIBRARIES = ("libc6", "libexpat1", "zlib1g", "libffi8")
INIT = """#!/usr/bin/python{version} -SI
import sys
sys.path.insert(0, "/src")
from pagewarden.probe.pkvm import inside
inside.main()
"""
OWN = ("vocab", "abi", "kernel", "probe")
"""Packages of ours that run inside: `probe` and what is below it."""
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH
NEEDED = ("collections", "ctypes", "encodings", "importlib", "json", "lib-dynload", "pathlib", "re", "urllib")
"""Packages of the standard library that are taken along, beside all its plain modules."""


def lack() -> str:
    """What this machine lacks to boot one, and how to get it; "" when it can."""
    if shutil.which(QEMU) is None and shutil.which("apt-get") is None:
        return f"{QEMU} is needed (QEMU 7.2 or newer)"
    return ""


def ask(
    kernel: Kernel,
    backings: Sequence[str],
    ways: Sequence[str],
    seconds: float,
    say: Tell = lambda what: None,
    progress: Advance | None = None,
    each: float = 10.0,
) -> list[bytes]:
    """Boot the kernel and ask the cells of those backings and ways (shell patterns): the lines of inside.ANSWER. each:
    seconds for a cell.

    Unavailable where it cannot be booted, where it dies on the way (with the console's last lines) or takes longer than
    that. Nothing is left running or lying about, however it ends.
    """
    qemu = emulator(say)
    with tempfile.TemporaryDirectory(prefix="pagewarden-lab-") as made:
        place = Path(made)
        asked = json.dumps({"backings": list(backings), "ways": list(ways), "each": each}).encode()
        (place / "initramfs").write_bytes(build(kernel.modules, userland(say), asked))
        for name, size in (("disk", DISK), ("answer", ANSWER)):
            with (place / name).open("wb") as file:
                file.truncate(size)
        say(f"booting {kernel.name}")
        watch([*qemu, *_machine(kernel, place)], place, kernel.name, seconds, progress)
        lines = (place / "answer").read_bytes().partition(b"\0")[0].splitlines()
        if not lines or not lines[-1].startswith(b'{"end"'):
            raise Unavailable(
                f"{kernel.name} died after {max(0, len(lines) - 1)} answers{last_lines(place)}",
                "is it an arm64 kernel with CONFIG_KVM and virtio disks?",
            )
        return lines


def _machine(kernel: Kernel, place: Path) -> list[str]:
    drives = [f"file={place / name},if=none,id={name},format=raw,cache=unsafe" for name in ("disk", "answer")]
    disks = [word for drive in drives for word in ("-drive", drive)]
    disks += [word for name in ("disk", "answer") for word in ("-device", f"virtio-blk-pci,drive={name}")]
    return [
        "-M", "virt,virtualization=on,gic-version=3", "-cpu", CPU, "-smp", "1", "-m", MEMORY,
        "-no-user-config", "-nodefaults", "-nic", "none", "-display", "none", "-no-reboot", *disks,
        "-serial", f"file:{place / CONSOLE}",
        "-kernel", str(kernel.image), "-initrd", str(place / "initramfs"), "-append", APPEND,
    ]  # fmt: skip


def emulator(say: Tell) -> list[str]:
    """The words that start QEMU: the system's, or the package of the system's own release, unpacked. Unavailable."""
    if shutil.which(QEMU):
        return [QEMU]
    place = packages.home() / "qemu-system-arm"
    if not place.exists():
        with packages.archive(say) as apt:
            packages.bring([f"qemu-system-arm/{packages.release()}"], place, apt, say)
    program = place / "usr/bin" / QEMU
    if missing := [line for line in packages.run(["ldd", str(program)]).splitlines() if "not found" in line]:
        raise Unavailable(f"{QEMU} lacks {missing[0].strip()}", "apt-get install qemu-system-arm")
    return [str(program), "-L", str(place / "usr/share/qemu")]


def userland(say: Tell) -> tuple[str, Path]:
    """The version of a Python for arm64, and where it lies with its libraries; Unavailable."""
    version = PYTHONS.get(sys.version_info[:2], "3.13")
    place = packages.of(f"python{version}", "arm64")
    if not place.exists():
        names = [f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib", *LIBRARIES]
        with packages.archive(say, "arm64") as apt:
            packages.bring(names, place, apt, say)
    return version, place


def build(modules: Path | None, python: tuple[str, Path], asked: bytes) -> bytes:
    """The archive that the kernel starts with."""
    version, root = python
    program, library = f"usr/bin/python{version}", f"usr/lib/python{version}"
    files = {"init": INIT.format(version=version).encode(), "ask.json": asked, program: (root / program).read_bytes()}
    files |= initramfs.of_modules(modules, MODULES)
    files |= {f"lib/{path.name}": path.read_bytes() for path in root.rglob("*.so.*") if path.is_file()}
    for place in (root / library, *(root / library / name for name in NEEDED)):
        files |= importable(place, str(place.relative_to(root)), version, place)
    source = Path(pagewarden.__file__).parent
    with tempfile.TemporaryDirectory() as made:
        for place in (source, *(path for name in OWN for path in (source / name, *(source / name).rglob("*/")))):
            files |= importable(place, f"src/pagewarden/{place.relative_to(source)}", version, Path(made))
    return initramfs.cpio(files, ("proc", "sys", "dev", "tmp"))


def importable(place: Path, name: str, version: str, kept: Path) -> dict[str, bytes]:
    """The modules right in a directory, under that name: compiled, and kept so, where that Python takes it so."""
    files = {f"{name}/{path.name}": path.read_bytes() for path in place.glob("*.so")}
    same = sys.implementation.name == "cpython" and PYTHONS.get(sys.version_info[:2]) == version
    for path in place.glob("*.py"):
        compiled = kept / f"{path.stem}.pyc"
        if same and (kept != place or not compiled.exists()):
            same = py_compile.compile(str(path), str(compiled), invalidation_mode=UNCHECKED, quiet=2) is not None
        found = compiled if same else path
        files[f"{name}/{found.name}"] = found.read_bytes()
    return files
