"""The law of one page, written once: apply(policy, page, op) -> Step, and its tables.

What stands below may be imported, and `law.properties` and `law.cases`. The rules themselves are in `law.rules`.

    from pagewarden.law import Op, apply, policy_named, reason, start

    policy = policy_named("hybrid")
    print(apply(policy, start(policy), Op.GUEST_LOAD).outcome.name, reason(Op.GUEST_LOAD))
"""

from pagewarden.law import calls, sources
from pagewarden.law.locks import LOCKING, LOCKS
from pagewarden.law.objects import POLICIES
from pagewarden.law.ops import DESTROYS, FREES, HOST_READS, HOST_WRITES, KEEPS, Op
from pagewarden.law.page import Data, Home, Owner, Page, Reach, View, component_states
from pagewarden.law.policy import MEASURES, MECHANISMS, NAMES, Guard, Policy
from pagewarden.law.refusals import reason, says, sources_of
from pagewarden.law.rules import RULES, SOURCES, borders, convert, frames, guest, host, move, reclaim, start, store
from pagewarden.law.step import Outcome, Step
from pagewarden.law.table import Table, enumerated, tabulate
from pagewarden.law.usages import APART, BACKED, EVERY, USAGES, USED, Usage, policy_named, policy_of

__all__ = [
    "APART", "BACKED", "DESTROYS", "EVERY", "FREES", "HOST_READS", "HOST_WRITES", "KEEPS", "LOCKING", "LOCKS",
    "MEASURES", "MECHANISMS",
    "NAMES", "POLICIES", "SOURCES", "USAGES", "USED", "Data", "Guard", "Home", "Op", "Outcome", "Owner", "Page",
    "Policy", "Reach", "Step", "Table", "Usage", "View", "apply", "calls", "component_states", "enumerated",
    "policy_named", "policy_of", "reason", "says", "sources", "sources_of", "start", "tabulate",
]  # fmt: skip

# Importing the files of rules is what fills RULES.
_FILES = (borders, convert, frames, guest, host, move, reclaim, store)
assert all(module.__doc__ for module in _FILES) and len(RULES) == len(Op)


def apply(policy: Policy, page: Page, op: Op) -> Step:
    """One operation on one page. Pure: the given page is not changed; a refusal's page equals it."""
    return RULES[op](policy, page)
