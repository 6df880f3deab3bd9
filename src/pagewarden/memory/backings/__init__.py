"""The kinds of memory behind a PrivateMemory: one file each, known to the rest by `protocol.Backing` alone.

A new backing is a file in this folder whose class is decorated with `protocol.backing`, and its rows in `probe/`.
`pagewarden.memory.choose` finds it by its name.
"""
