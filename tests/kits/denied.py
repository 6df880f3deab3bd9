"""Run pagewarden where the kernel denies system calls: `denied.py ERRNO CALL,CALL VERB ...`."""

import ctypes
import errno
import platform
import sys

from pagewarden.abi import memory_seccomp as bpf
from pagewarden.kernel.door import prctl
from pagewarden.kernel.machine import number_of


def deny(code: int, calls: list[str]) -> None:
    """From now on, here and in every child, the calls fail with this errno."""
    lines = [
        (bpf.BPF_LD_W_ABS, 0, 0, bpf.SECCOMP_DATA_ARCH),
        (bpf.BPF_JMP_JEQ_K, 1, 0, bpf.AUDIT_ARCH[platform.machine()]),
        (bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_KILL_PROCESS),
        (bpf.BPF_LD_W_ABS, 0, 0, bpf.SECCOMP_DATA_NR),
    ]
    for name in calls:
        lines += [(bpf.BPF_JMP_JEQ_K, 0, 1, number_of(name)), (bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_ERRNO | code)]
    lines.append((bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_ALLOW))
    array = (bpf.sock_filter * len(lines))(*(bpf.sock_filter(*line) for line in lines))
    program = bpf.sock_fprog(len(lines), ctypes.cast(array, ctypes.POINTER(bpf.sock_filter)))
    prctl(bpf.PR_SET_NO_NEW_PRIVS, 1)
    prctl(bpf.PR_SET_SECCOMP, bpf.SECCOMP_MODE_FILTER, ctypes.addressof(program))


if __name__ == "__main__":
    deny(getattr(errno, sys.argv[1]), sys.argv[2].split(","))
    from pagewarden.cli import main

    sys.argv = ["pagewarden", *sys.argv[3:]]
    main()
