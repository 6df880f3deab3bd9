"""`migrate`: the guest of `run` goes from one process to another, with its devices, while it does its I/O."""
