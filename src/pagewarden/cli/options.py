"""`--set key=value`: a price of the profile, or an option of the designs and the machine."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from pagewarden.cost import Profile
from pagewarden.cost.names import PRICES
from pagewarden.cost.names import setting as setting_of
from pagewarden.designs import Options
from pagewarden.law import Policy
from pagewarden.studies.compare.comparison import Setup
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE, UserMistake, one_of

_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_SIZES = {"4k": PAGE_SIZE, "4096": PAGE_SIZE, "2m": HUGE_PAGE, str(HUGE_PAGE): HUGE_PAGE}
_CACHES = {"warm": "warm", "cold": "cold"}
_MOST = 1 << 32
ABOUT = {
    "sync-notify": "the host is told of each share at once: true or false",
    "batch": "a request's pages convert in one call: true or false",
    "in-place": "the host does its I/O straight from the mapping: true or false",
    "lazy": "requests whose pages one deferred unshare covers; 0 unshares at once",
    "retries": "how often the guest asks again when an unshare is refused, 0 to 100",
    "page-size": "4k or 2m",
    "pool-pages": "pages of the bounce pool; without: as many as are needed",
    "ring-entries": "entries of the iommu design's ring",
    "in-flight": "requests whose buffers are in use at once",
    "cache": "warm or cold: which prices of a copied byte count",
}
"""Every option and what it is; prices are the profile's."""
_OPTIONS = {field.name: field.type for field in dataclasses.fields(Options)}
_LIMITS = {"retries": 100}
"""Each retry is written out in the procedure."""


def setup(policy: Policy, profile: Profile, settings: Sequence[str], notes: tuple[str, ...] = ()) -> Setup:
    """What the settings make of policy and profile; notes: on these two. UserMistake names the setting at fault."""
    options: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    prices: dict[str, float | str] = {}
    seen: dict[str, str] = {}
    known = (*ABOUT, *map(setting_of, PRICES))
    for setting in settings:
        name, found, value = setting.partition("=")
        if not found:
            raise UserMistake(f"--set {setting}: expected key=value, such as --set batch=false or --set tlbi_ns=500")
        name = one_of("setting", name.strip(), known)
        if name in seen:
            raise UserMistake(f"--set {setting}: {name} is set twice; leave one out")
        seen[name] = value
        key = name.replace("-", "_")
        if name not in ABOUT:
            prices[name] = value
        elif key in _OPTIONS:
            options[key] = _switch(setting, value) if _OPTIONS[key] is bool else _number(setting, value, 0, key)
        elif key == "cache":
            machine[key] = _choice(setting, value, _CACHES)
        elif key == "page_size":
            machine[key] = _choice(setting, value.lower(), _SIZES)
        else:
            machine[key] = _number(setting, value, 1, key)
    return Setup(policy, profile.with_settings(prices), Options(**options), settings=seen, **machine, notes=notes)


def _switch(setting: str, value: str) -> bool:
    return bool(_choice(setting, value.lower(), _SWITCHES))


def _choice(setting: str, value: str, known: dict[str, Any]) -> Any:
    if value not in known:
        raise UserMistake(f"--set {setting}: expected one of {', '.join(known)}")
    return known[value]


def _number(setting: str, value: str, least: int, key: str) -> int:
    most = _LIMITS.get(key, _MOST - 1)
    if not value.isdecimal() or len(value) > len(str(_MOST)) or not least <= int(value) <= most:
        upper = f"to {most}" if key in _LIMITS else "or more"
        raise UserMistake(f"--set {setting}: expected a whole number of {least} {upper}")
    return int(value)
