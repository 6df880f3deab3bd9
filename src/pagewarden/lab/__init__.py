"""Other kernels: had as packages of this system's own archive, booted under QEMU, with something run inside.

`fetch` has them by `packages`, `initramfs` builds what they start with, `machine` watches a QEMU. `qemu` boots one of
x86-64 over this machine's own files, runs a command inside and brings back what it said; `pkvm` boots one of arm64 with
its hypervisor and asks what its host can do to a protected VM.

    answer = qemu.run(fetch.kernel("debian:6.12"), ["uname", "-a"], seconds=60)
    print(answer.kernel, answer.stdout)
"""

MACHINE = "x86_64"
"""What uname(2) must call the machine, for the QEMU that is used here."""
