"""KVM with private pages, as a module for a kernel of Debian's, which has none: KVM_SW_PROTECTED_VM is left out there.

kvm.ko and kvm-amd.ko are built from the sources of the very version, with its configuration and that one more; the
result lies in the cache beside the kernels. `python tests/kits/attributes_kvm.py` builds it: two minutes of one core.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from pagewarden.lab import fetch, packages, qemu
from pagewarden.vocab import Unavailable

TOOLS = {"gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "pahole": "pahole",
         "/usr/include/gelf.h": "libelf-dev", "/usr/include/openssl/ssl.h": "libssl-dev"}  # fmt: skip
PARTS = ("*/Makefile*", "*/Kbuild*", "*/Kconfig*", "tools", "include", "arch/x86", "scripts", "usr", "virt", "mm",
         "lib", "kernel", "certs", "init", "security")  # fmt: skip
"""Of the sources: what makes the configuration and the tools, and KVM."""
ENOUGH = 1800.0
BUILD = """set -e
cp "$2/.config" .
scripts/config -e KVM_SW_PROTECTED_VM -d MODULE_SIG_ALL --set-str SYSTEM_TRUSTED_KEYS "" --set-str LOCALVERSION ""
make -s olddefconfig
grep -q '^CONFIG_KVM_SW_PROTECTED_VM=y' .config
make -s LOCALVERSION="$1" modules_prepare
cp "$2/Module.symvers" .
make -s LOCALVERSION="$1" M=arch/x86/kvm modules
strip -g arch/x86/kvm/kvm.ko arch/x86/kvm/kvm-amd.ko
"""


def lack() -> str:
    """What is missing to build it, and how to get it; "" when nothing is."""
    missing = [package for tool, package in TOOLS.items() if not (shutil.which(tool) or os.path.exists(tool))]
    return f"apt-get install {' '.join(missing)}" if missing else ""


def place_of(kernel: fetch.Kernel) -> Path:
    """Where its modules lie once they are built."""
    assert kernel.modules is not None
    return packages.of("kernels-attributes", kernel.architecture) / kernel.modules.name


def with_attributes(kernel: fetch.Kernel, say: packages.Tell = lambda what: None) -> fetch.Kernel:
    """The same kernel, and modules of which these two are built anew, unless that was done before; Unavailable."""
    assert kernel.modules is not None
    place, version = place_of(kernel), kernel.modules.name
    if not place.exists():
        if missing := lack():
            raise Unavailable("KVM cannot be built", missing)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as made:
            modules = Path(made) / "modules"
            shutil.copytree(kernel.modules, modules, ignore=shutil.ignore_patterns("vmlinuz", "kvm.ko*", "kvm-amd.ko*"))
            for built in _built(version, Path(made), say):
                shutil.copy(built, modules)
            modules.rename(place)
    return replace(kernel, modules=place)


def ask(kernel: fetch.Kernel, one_of: int = 1, say: packages.Tell = lambda what: None) -> dict[str, Any]:
    """What attributes_guest.py says in that kernel, asked one row of so many."""
    asker = Path(__file__).with_name("attributes_guest.py")
    answer = qemu.run(kernel, [sys.executable, str(asker), str(one_of)], ENOUGH, say=say)
    assert answer.status == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def _built(version: str, made: Path, say: packages.Tell) -> list[Path]:
    series = version.rpartition(".")[0]
    with packages.archive(say) as apt:
        say(f"downloading the sources of {version}")
        apt("apt-get", "download", f"linux-source-{series}", f"linux-headers-{version}", cwd=str(made))
    for package in made.glob("*.deb"):
        packages.run(["dpkg-deb", "-x", str(package), str(made)])
    sources, headers = (made / "usr/src" / name for name in (f"linux-source-{series}", f"linux-headers-{version}"))
    say("unpacking and building")
    wanted = [part if "*" in part else f"{sources.name}/{part}" for part in PARTS]
    packages.run(["tar", "-xf", f"{sources}.tar.xz", "-C", str(sources.parent), "--wildcards", *wanted])
    done = subprocess.run(
        ["sh", "-c", BUILD, "sh", version.removeprefix(_release(sources)), headers],
        cwd=sources, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"KVM was not built: {done.stdout.strip()[-2000:]}", "is it the compiler of that release?")
    return [sources / "arch/x86/kvm" / name for name in ("kvm.ko", "kvm-amd.ko")]


def _release(sources: Path) -> str:
    """7.3.4 of the Makefile: what is added to it is Debian's."""
    lines = (line.partition(" = ") for line in (sources / "Makefile").read_text().splitlines()[:6])
    number = {name: value for name, _, value in lines}
    return ".".join(number[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))


if __name__ == "__main__":
    print(with_attributes(fetch.kernel("debian:7.3"), lambda what: print(what, file=sys.stderr, flush=True)).modules)
