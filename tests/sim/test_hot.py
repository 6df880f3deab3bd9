"""The same code interpreted and compiled gives the same states and counts."""

import subprocess
import sys

SCRIPT = """
import sys
import numpy as np
from pagewarden.designs import DESIGNS, Options
from pagewarden.law import POLICIES
from pagewarden.sim import Machine, engine
from pagewarden.vocab.hot import compile_hot
from pagewarden.vocab import PageRange

policy = POLICIES["hybrid"]
engine.INTERPRETED = 1 << 40

def run(design, batch):
    machine = Machine(policy, 4096, pool_pages=64, ring_entries=16)
    procedures = [DESIGNS[design](Options(batch=batch), policy, write) for write in (True, False)]
    machine.prepare(procedures[0], PageRange(0, 4096))
    random = np.random.default_rng(5)
    firsts, counts = random.integers(0, 4000, 200), random.integers(1, 90, 200)
    found = machine.run(procedures, random.integers(0, 2, 200), firsts, counts, counts * 4096)
    return found.as_dict(), found.completed, found.failed, [machine.memory.state(page) for page in range(4096 + 64)]

cases = [(design, batch) for design in DESIGNS for batch in (True, False)]
plain = [run(*case) for case in cases]
assert "numba" not in sys.modules, "nothing needed the compiler yet"
compile_hot()
assert [run(*case) for case in cases] == plain
assert type(__import__("pagewarden.sim.engine", fromlist=["x"]).execute).__name__ == "CPUDispatcher"
print(sum(failed for _, _, failed, _ in plain))
"""


def test_interpreted_and_compiled_agree() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "some requests must run out of the pool for the branches to be seen"
