"""The one door to the kernel: system calls, regions, userfaultfd, KVM and event counters of the kernel that runs.

Only here are ctypes.CDLL, fcntl and mmap used; errno becomes an exception in one place (`door`). Nothing here knows the
law. May be imported: door, region, uffd, kvm, kvm_x86, files, counters, still, machine (what is for one machine alone).

    from pagewarden.kernel.door import memfd
    from pagewarden.kernel.region import Region

    file, region = memfd("name", 1 << 20), Region(1 << 20)
    region.place(file.fd)
"""
