"""The archive that a kernel starts with: what cpio(1) makes of it, and modules in the order of their needs."""

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from live import require
from pagewarden.lab import initramfs
from pagewarden.vocab import Unavailable


def module(path: Path, needs: str = "") -> None:
    """A file with a module's information in it, packed as its name says."""
    content = b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)


def test_modules_come_behind_what_they_need_and_each_once(tmp_path: Path) -> None:
    module(tmp_path / "kernel/kvm-amd.ko.xz", "kvm,ccp")
    module(tmp_path / "kernel/kvm.ko.xz", "irqbypass")
    module(tmp_path / "kernel/irqbypass.ko")
    module(tmp_path / "kernel/ccp.ko", "irqbypass")
    found = initramfs.chain(initramfs.Modules(tmp_path), ["kvm_amd", "ext4", "kvm"])
    assert list(found) == ["irqbypass", "kvm", "ccp", "kvm_amd"], "ext4 is built in"
    assert initramfs.depends(found["kvm_amd"]) == ["kvm", "ccp"]


def test_a_module_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    module(tmp_path / "overlay.ko.br")
    with pytest.raises(Unavailable, match=r"overlay\.ko\.br"):
        initramfs.chain(initramfs.Modules(tmp_path), ["overlay"])


def test_a_kernel_without_modules_has_them_built_in() -> None:
    assert initramfs.chain(initramfs.Modules(None), initramfs.EARLY) == {}


def test_cpio_reads_the_archive(tmp_path: Path) -> None:
    require(shutil.which("cpio") is not None, "no cpio")
    files = {"init": b"#!/bin/sh\n", "modules/order": b"kvm\n", "bin/odd": b"x" * 4097}
    subprocess.run(["cpio", "-idm", "--quiet"], input=initramfs.cpio(files), cwd=tmp_path, check=True)
    for name, content in files.items():
        assert (tmp_path / name).read_bytes() == content
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
    assert {path.name for path in tmp_path.iterdir()} == set(initramfs.DIRECTORIES) | {"init"}


def test_the_whole_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(initramfs, "busybox", lambda: b"busybox")
    module(tmp_path / "virtio_pci.ko", "virtio")
    module(tmp_path / "virtio.ko")
    archive = gzip.decompress(initramfs.build(tmp_path))
    assert archive.startswith(b"070701") and b"virtio\nvirtio_pci\n" in archive and b"TRAILER!!!" in archive
    assert initramfs.INIT.read_bytes() in archive


def test_a_busybox_that_needs_libraries_will_not_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"\x7fELF..../lib64/ld-linux-x86-64.so.2")
    (tmp_path / "busybox").chmod(0o755)
    for place in (tmp_path, tmp_path / "nothing"):
        monkeypatch.setenv("PATH", str(place))
        with pytest.raises(Unavailable, match="busybox-static"):
            initramfs.busybox()


def test_the_script_inside_is_one_that_sh_can_read() -> None:
    subprocess.run(["sh", "-n", str(initramfs.INIT)], check=True)
