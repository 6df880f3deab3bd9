"""Which rows of the kernels that were asked showed what a rule says: the ways whose operations it is one of."""

from functools import cache

from pagewarden.law import Op, Policy
from pagewarden.law.objects import ATTRIBUTES
from pagewarden.studies.probe.expected import SCRIPTS
from pagewarden.studies.probe.protected import ASKED, WAYS


@cache
def shown(policy: Policy) -> dict[Op, tuple[str, ...]]:
    """Of each operation the ways that were tried, with it, on the kernels that `policy.asked` names; none where the
    policy is argued, or was asked by other means than the probe's."""
    if not policy.asked or policy.asked == ATTRIBUTES:
        return {}
    ways = {key: WAYS[key] for key in WAYS if key[0] in ASKED} if policy.family == "pkvm" else SCRIPTS
    return {op: tuple(dict.fromkeys(name for (name, _), script in ways.items() if op in script)) for op in Op}
