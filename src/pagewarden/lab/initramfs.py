"""What a kernel starts with: busybox, modules with what they need, and a script; an archive of our own making."""

import gzip
import lzma
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from pagewarden.vocab import Unavailable

INIT = Path(__file__).with_name("init.sh")
DIRECTORIES = ("bin", "proc", "sys", "dev", "lower", "rw", "root", "modules")
EARLY = ("virtio_pci", "virtio_blk", "virtiofs", "overlay", "ext4")
"""Without which nothing can be run inside."""
LATE = ("kvm_amd", "virtio_rng")
"""Without which the rest can."""
UNPACK: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress, ".ko": bytes}
"""How a module is packed, by the end of its name."""
DIRECTORY, REGULAR = 0o040755, 0o100755


def build(modules: Path | None, wanted: Iterable[str] = (*EARLY, *LATE)) -> bytes:
    """The archive, gzipped, for a kernel whose modules lie there; Unavailable."""
    files = of_modules(modules, wanted)
    return gzip.compress(cpio({"init": INIT.read_bytes(), "bin/busybox": busybox(), **files}), 1)


def of_modules(modules: Path | None, wanted: Iterable[str]) -> dict[str, bytes]:
    """modules/NAME.ko of those and of what they need, and modules/order: their names, each behind what it needs."""
    loaded = chain(Modules(modules), wanted)
    files = {f"modules/{name}.ko": content for name, content in loaded.items()}
    return {**files, "modules/order": "".join(f"{name}\n" for name in loaded).encode()}


def busybox() -> bytes:
    """A busybox that needs no library; Unavailable."""
    found = shutil.which("busybox")
    content = Path(found).read_bytes() if found else b""
    if not content or b"/ld-linux" in content[:4096]:
        raise Unavailable("no busybox that is linked statically", "apt-get install busybox-static")
    return content


class Modules:
    """A kernel's modules by name (with _ for -)."""

    def __init__(self, place: Path | None) -> None:
        found = () if place is None else place.rglob("*.ko*")
        self._files = {path.name.partition(".ko")[0].replace("-", "_"): path for path in found}

    def content(self, name: str) -> bytes | None:
        """The module, unpacked; None for one that is built in, or is not there at all."""
        path = self._files.get(name)
        if path is None:
            return None
        if path.suffix not in UNPACK:
            raise Unavailable(f"module {path.name} is packed in a way that is not known here", "try another kernel")
        return UNPACK[path.suffix](path.read_bytes())


def chain(modules: Modules, wanted: Iterable[str]) -> dict[str, bytes]:
    """Modules and what they depend on, each behind what it needs."""
    loaded: dict[str, bytes] = {}

    def add(name: str) -> None:
        content = None if name in loaded else modules.content(name)
        if content is not None:
            for needed in depends(content):
                add(needed)
            loaded[name] = content

    for name in wanted:
        add(name)
    return loaded


def depends(module: bytes) -> list[str]:
    """The names in a module's own information (kernel/module/main.c, .modinfo: strings that end in a NUL)."""
    for text in module.split(b"\0"):
        if text.startswith(b"depends="):
            return [name.replace("-", "_") for name in text[8:].decode().split(",") if name]
    return []


def cpio(files: Mapping[str, bytes], directories: Iterable[str] = DIRECTORIES) -> bytes:
    """A "newc" archive of these files and directories, with those that they lie in, all root's and executable: a header
    of 13 numbers of 8 hexadecimal digits, the name, the content, each padded to 4 bytes
    (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    parents = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    entries = [(name, DIRECTORY, b"") for name in sorted({*directories, *parents} - {"."})]
    entries += [(name, REGULAR, content) for name, content in files.items()]
    made = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        made += b"070701" + b"".join(b"%08X" % field for field in fields) + os.fsencode(name) + b"\0"
        made += bytes(-len(made) % 4) + content
        made += bytes(-len(made) % 4)
    return bytes(made)
