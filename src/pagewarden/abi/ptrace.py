"""The few ptrace requests that reach another process's memory (include/uapi/linux/ptrace.h)."""

PTRACE_PEEKDATA = 2
PTRACE_POKEDATA = 5
PTRACE_ATTACH = 16
PTRACE_DETACH = 17

WORD = 8
"""Bytes that one PEEK or POKE moves on a 64-bit machine."""
