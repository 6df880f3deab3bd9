"""What a host can do to a page of a protected VM (arm64 pKVM), asked inside such a kernel by Python's standard library
alone: `guest` is the VM's program, `stage` the VM, `ways` and `own` what is tried, `asker` asks all of it, and
`inside` is the machine's first process, for which `pagewarden.lab` builds the machine.
"""

HANGS = ("futex-wake-op",)
"""Ways that keep a process in the kernel for good (seen on Linux 7.3.4: `fault_in_user_writeable` finds nothing amiss,
and kernel/futex/waitwake.c tries again for ever). They come last."""
