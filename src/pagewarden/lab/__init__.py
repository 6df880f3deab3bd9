"""Other kernels: had as packages of this system's own archive, booted under QEMU, with a command run inside.

`fetch` has them, `initramfs` builds what they start with, `qemu` boots one and brings back what the command said.
x86-64 only: this one line, MACHINE, says so.

    answer = qemu.run(fetch.kernel("debian:6.12"), ["uname", "-a"], seconds=60)
    print(answer.kernel, answer.stdout)
"""

MACHINE = "x86_64"
"""What uname(2) must call the machine, for the QEMU, the flavour of the packages and the console that are used here."""
