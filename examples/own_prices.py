"""Prices of one's own: a profile with some of them replaced, and what that does to the answer.

python examples/own_prices.py
"""

from pathlib import Path

from pagewarden.cost import load_profile
from pagewarden.law import POLICIES
from pagewarden.studies.compare.comparison import Setup, compare
from pagewarden.workload import load

trace = load(Path(__file__).parent / "randrw.iolog")
published = load_profile("vmx-skylake")
mine = published.with_settings(
    {
        "tlbi_ns": 150,  # a number that was measured
        "hypercalls_ns": "20..80",  # a range: what depends on it is a range
        "copy_cold_ns_per_byte": 0.4,
    }
)
for profile in (published, mine):
    found = compare(Setup(POLICIES["hybrid"], profile), trace)
    print(f"{'as published' if profile is published else 'with mine'}: not beaten: {', '.join(found.contenders)}")
    for crossover in found.crossovers:
        if crossover.against == "bounce":
            print(f"  {crossover.design} is cheaper than bounce from, in pages: {crossover.sizes}")
