"""A guest program does what the guest does in the procedure of its design: the same crossings and copies, in order."""

from collections.abc import Iterator

import pytest

from pagewarden.designs import DESIGNS, Copy, Do, Each, Hop, Options, Procedure, Steps, Take
from pagewarden.guest.program import BATCH, Act
from pagewarden.law import POLICIES, Op

WORDS = {
    Act.SHARE: "hypercall",
    Act.UNSHARE: "hypercall",
    Act.MAP: "map",
    Act.KICK: "kick",
    Act.COPY_OUT: "copy",
    Act.COPY_IN: "copy",
}


def by_the_procedure(steps: Steps) -> Iterator[str]:
    """What the guest does that others notice; a resource is there, nothing is refused."""
    for step in steps:
        if isinstance(step, Each):
            yield from by_the_procedure(step.steps)
        elif isinstance(step, Take):
            yield from by_the_procedure(step.then)
        elif isinstance(step, Hop) and step.edge == "guest>hyp":
            yield "hypercall" if step.hypercall else "kick"
        elif isinstance(step, Do) and step.op is Op.OFFER:
            yield "map"
        elif isinstance(step, Copy) and step.side == "guest":
            yield "copy"


def hops(steps: Steps) -> int:
    inner = (step.steps if isinstance(step, Each) else step.then for step in steps if isinstance(step, Each | Take))
    return sum(isinstance(step, Hop) for step in steps) + sum(map(hops, inner))


def procedure(name: str, write: bool) -> Procedure:
    return DESIGNS[name](Options(), POLICIES["hybrid"], write)


def test_there_is_a_program_for_each_design() -> None:
    assert list(BATCH) == list(DESIGNS)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("name", BATCH)
def test_a_program_follows_the_procedure(name: str, write: bool) -> None:
    skipped = Act.COPY_IN if write else Act.COPY_OUT
    made = [WORDS[step] for step in BATCH[name] if step in WORDS and step is not skipped]
    listed = procedure(name, write)
    assert made == list(by_the_procedure(listed.steps))
    assert hops(listed.steps) == 2 * made.count("hypercall") + 4 * made.count("kick")
