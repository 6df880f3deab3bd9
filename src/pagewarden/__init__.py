"""fd-based private memory for virtual machines, and the I/O that goes with it."""

__version__ = "0.2.0"
