"""What a host can do to a page of a protected VM (arm64 pKVM), asked inside such a kernel by Python's standard library
alone: `guest` is the VM's program, `stage` the VM, `ways` and `own` what is tried, `asker` asks all of it, and
`inside` is the machine's first process, for which `pagewarden.lab` builds the machine.
"""
