"""Every kind of name that the command takes, and what each name is."""

from collections.abc import Callable, Mapping

from pagewarden.cli import options, platforms
from pagewarden.cost import load_profile, profile_names
from pagewarden.designs import PROCEDURES, WITH_PROPOSED, Design, Options
from pagewarden.law import MEASURES, MECHANISMS, POLICIES, USAGES, policy_of
from pagewarden.memory.choose import BACKINGS
from pagewarden.vocab import UserMistake
from pagewarden.workload.driver import DRIVERS

Names = Mapping[str, str]
"""Name -> what it is, in a line."""


def policies() -> Names:
    """Kinds of backing store, and what each stands for."""
    return {name: policy.stands_for for name, policy in POLICIES.items()}


def profiles() -> Names:
    """A profile of the user's own that cannot be read says so, and hides no other."""
    found = {}
    for name in profile_names():
        try:
            found[name] = load_profile(name).about
        except UserMistake as mistake:
            found[name] = f"cannot be used: {mistake}"
    return found


def designs() -> Names:
    """The I/O designs, and how each goes."""
    return _titles(WITH_PROPOSED)


def _titles(designs: Mapping[str, Design]) -> Names:
    some = POLICIES["hybrid"]
    return {name: design(Options(), some, True).title for name, design in designs.items()}


def of_plugin(own: platforms.Plugin) -> Mapping[str, Names]:
    """What a file of the user's own adds to designs and policies."""
    policies = {name: policy.stands_for for name, policy in own.policies.items()}
    return {"designs": _titles(own.designs), "policies": policies}


def procedures() -> Names:
    """What happens to a page besides I/O."""
    some = POLICIES["hybrid"]
    return {name: make(some).title for name, make in PROCEDURES.items()}


def backings() -> Names:
    """The kinds of memory that this library can make."""
    return {name: policy_of(name).stands_for for name in BACKINGS}


KINDS: Mapping[str, Callable[[], Names]] = {
    "policies": policies,
    "profiles": profiles,
    "designs": designs,
    "options": lambda: options.ABOUT,
    "backings": backings,
    "mechanisms": lambda: MECHANISMS,
    "measures": lambda: MEASURES,
    "usages": lambda: {name: usage.stands_for for name, usage in USAGES.items()},
    "procedures": procedures,
    "platforms": lambda: {name: platform.about for name, platform in platforms.PLATFORMS.items()},
    "drivers": lambda: DRIVERS,
}
