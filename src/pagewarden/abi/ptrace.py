"""The few ptrace requests that reach another process's memory (include/uapi/linux/ptrace.h)."""

from ctypes import Structure, c_uint8, c_uint32, c_uint64

PTRACE_PEEKDATA = 2
PTRACE_POKEDATA = 5
PTRACE_ATTACH = 16
PTRACE_DETACH = 17

WORD = 8
"""Bytes that one PEEK or POKE moves on a 64-bit machine."""

PTRACE_TRACEME = 0
PTRACE_SYSCALL = 24
PTRACE_SETOPTIONS = 0x4200
PTRACE_GET_SYSCALL_INFO = 0x420E
PTRACE_O_TRACESYSGOOD = 1
PTRACE_O_TRACEFORK, PTRACE_O_TRACEVFORK, PTRACE_O_TRACECLONE = 2, 4, 8
PTRACE_O_EXITKILL = 1 << 20
PTRACE_SYSCALL_INFO_ENTRY, PTRACE_SYSCALL_INFO_EXIT = 1, 2


class ptrace_syscall_info(Structure):
    """Up to what an entry has, nr and args. An exit has its value where nr is."""

    _fields_ = (
        ("op", c_uint8),
        ("pad", c_uint8 * 3),
        ("arch", c_uint32),
        ("instruction_pointer", c_uint64),
        ("stack_pointer", c_uint64),
        ("nr", c_uint64),
        ("args", c_uint64 * 6),
    )
