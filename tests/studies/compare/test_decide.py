"""What `--decide` asks to be measured settles the question, and nothing smaller does."""

from itertools import combinations

import numpy as np
import pytest

from pagewarden.cost import load_profile, price, shipped_profiles
from pagewarden.law import POLICIES
from pagewarden.studies.compare.comparison import Comparison, Setup, compare
from pagewarden.studies.compare.decide import Decision, decide
from pagewarden.workload import single


def found(profile: str, size: int) -> Comparison:
    return compare(Setup(POLICIES["hybrid"], load_profile(profile)), single(size))


def wins(asked: Comparison, said: Decision, settings: dict[str, float]) -> bool:
    """Whether the cheapest is cheaper than each rival at these prices, by prices summed anew."""
    profile = asked.setup.profile.with_settings(settings)
    totals = {result.name: price(result.steady, profile).low for result in asked.results if result.ns}
    assert said.cheapest is not None
    return all(totals[said.cheapest] < totals[rival] for rival in said.rivals)


def at(asked: Comparison, exact: dict[str, float], draw: np.random.Generator) -> dict[str, float]:
    """The open prices at one of their ends each, some at a value of their own."""
    prices = asked.setup.profile.prices.values()
    ends = {each.setting: float(draw.choice(tuple(each.value))) for each in prices if not each.value.exact}
    return {**ends, **exact}


OPEN = [(profile.name, size) for profile in shipped_profiles() for size in (4096, 65536, 1 << 20)]


@pytest.mark.parametrize(("profile", "size"), OPEN)
def test_it_settles_the_question_and_nothing_smaller_does(profile: str, size: int) -> None:
    asked = found(profile, size)
    said = decide(asked)
    doubtful = [name for name in asked.contenders if name != asked.cheapest and asked.doubts(name)]
    assert said.rivals == tuple(doubtful) and said.cheapest == asked.cheapest
    if not doubtful or said.measure is None:
        assert said.measure == () or doubtful
        return
    draw = np.random.default_rng(1)
    middles = {each.setting: (each.known.low + each.known.high) / 2 for each in said.measure}
    for _ in range(40):
        off = {each.setting: float(draw.choice((-1, 1))) * each.within * 0.999 for each in said.measure}
        exact = {setting: middle + off[setting] for setting, middle in middles.items()}
        assert wins(asked, said, at(asked, exact, draw))
    if len(said.measure) <= 4:
        for fewer in combinations(middles, len(middles) - 1):
            assert not all(
                wins(asked, said, ends) for ends in corners(asked, said, {name: middles[name] for name in fewer})
            )


def corners(asked: Comparison, said: Decision, exact: dict[str, float]) -> list[dict[str, float]]:
    """For each rival the open prices at the ends that favour it most."""
    middle = {each.setting: sum(each.value) / 2 for each in asked.setup.profile.prices.values()}
    made = []
    for rival in said.rivals:
        ends = dict(middle)
        for each in asked.setup.profile.prices.values():
            trial = [gap(asked, said, rival, {**middle, each.setting: end}) for end in each.value]
            ends[each.setting] = each.value[int(np.argmin(trial))]
        made.append({**ends, **exact})
    return made


def gap(asked: Comparison, said: Decision, rival: str, settings: dict[str, float]) -> float:
    profile = asked.setup.profile.with_settings(settings)
    totals = {result.name: price(result.steady, profile).low for result in asked.results if result.ns}
    return totals[rival] - totals[str(said.cheapest)]


def test_some_question_is_open_and_some_is_not() -> None:
    said = [decide(found(profile, size)) for profile, size in OPEN]
    assert any(each.measure for each in said) and any(each.measure == () for each in said)
