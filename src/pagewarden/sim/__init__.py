"""The executable model of the whole machine: page states in arrays, procedures executed by table.

What stands below may be imported. `Machine` counts, `Contents` has bytes as well, `ModelMemory` is a port.Memory.

    from pagewarden.designs import DESIGNS, Options
    from pagewarden.law import POLICIES
    from pagewarden.sim import Machine
    from pagewarden.vocab import PageRange

    machine = Machine(POLICIES["hybrid"], 16)
    request = DESIGNS["window"].build(Options(), machine.policy, True)
    print(machine.perform(request, PageRange(0, 4)).as_dict())
"""

from pagewarden.sim.contents import Contents
from pagewarden.sim.counts import Counts
from pagewarden.sim.machine import POOL_BYTES, RING_ENTRIES, Machine
from pagewarden.sim.memory import ModelMemory

__all__ = ["POOL_BYTES", "RING_ENTRIES", "Contents", "Counts", "Machine", "ModelMemory"]
