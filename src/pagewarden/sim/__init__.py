"""The executable model of the whole machine: page states in arrays, procedures executed by table."""

from pagewarden.sim.contents import Contents
from pagewarden.sim.counts import Counts
from pagewarden.sim.machine import POOL_BYTES, RING_ENTRIES, Machine
from pagewarden.sim.memory import ModelMemory

__all__ = ["POOL_BYTES", "RING_ENTRIES", "Contents", "Counts", "Machine", "ModelMemory"]
