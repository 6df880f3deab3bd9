"""Which properties a policy could break at all: what no variant of it can break is promised by nothing that it has.

A variant is the policy with one of its mechanisms left out. What is at stake is found in the pages that the law lets a
variant reach by the operations of all actors, in whatever order: more than any interleaving.
"""

from collections import defaultdict
from collections.abc import Collection

from pagewarden.law import Op, Page, Policy, start
from pagewarden.law.policy import Watched
from pagewarden.law.properties import ALWAYS
from pagewarden.law.rules import RULES
from pagewarden.law.step import Step

PageMoves = tuple[list[tuple[Op, Step]], dict[str, list[Op]]]
"""What may happen to a page and matters: it is another one then, or a property is broken; and which operations ask for
each mechanism."""


def at_stake(policy: Policy, names: Collection[str], ops: Collection[Op]) -> set[str]:
    """Those of the properties (of `ALWAYS`) that the policy or a variant breaks on some page that it reaches by these
    operations."""
    known, found = _Known(policy, sorted(ops)), set[str]()
    for variant in (policy, *(policy.without(name) for name in sorted(policy.mechanisms))):
        left = [name for name in names if name in ALWAYS and name not in found]
        if left:
            found |= _broken(known, variant, left)
    return found


class _Known:
    """Steps of the policy by page, each with what its rule asked for: a variant that answers alike has the same."""

    def __init__(self, policy: Policy, ops: list[Op]) -> None:
        self.policy = Watched.of(policy)
        self.ops, self.rows = ops, dict[Page, PageMoves]()

    def row(self, page: Page) -> PageMoves:
        if page not in self.rows:
            moves, asks = [], defaultdict[str, list[Op]](list)
            for op in self.ops:
                self.policy.consulted.clear()
                step = RULES[op](self.policy, page)
                for name in self.policy.consulted:
                    asks[name].append(op)
                if step.page != page or any(_may_break(name, op, step) for name in ALWAYS):
                    moves.append((op, step))
            self.rows[page] = moves, asks
        return self.rows[page]


def _may_break(name: str, op: Op, step: Step) -> bool:
    return op in ALWAYS[name].ops and step.outcome in ALWAYS[name].outcomes


def _broken(known: _Known, variant: Policy, names: list[str]) -> set[str]:
    """Breadth first over the pages of a variant, until each of the properties is broken."""
    reached, found = {start(variant)}, set[str]()
    for page in (todo := list(reached)):
        moves, asks = known.row(page)
        again = {op for name in known.policy.mechanisms - variant.mechanisms for op in asks.get(name, ())}
        other = [(op, RULES[op](variant, page)) for op in again]
        for op, step in [*(move for move in moves if move[0] not in again), *other]:
            if step.page not in reached:
                reached.add(step.page)
                todo.append(step.page)
            for name in names:
                if name not in found and _may_break(name, op, step) and ALWAYS[name](variant, page, op, step):
                    found.add(name)
        if len(found) == len(names):
            break
    return found
