"""`--set key=value`: a price of the profile, or an option of the designs and the machine."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from pagewarden.cost import Profile
from pagewarden.designs import Options
from pagewarden.law import Policy
from pagewarden.studies.compare.comparison import Setup
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE, UserMistake

_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_OPTIONS = {field.name: field.type for field in dataclasses.fields(Options)}
_MACHINE = {"page_size", "pool_pages", "ring_entries", "in_flight", "cache"}


def setup(policy: Policy, profile: Profile, settings: Sequence[str]) -> Setup:
    """What the settings make of policy and profile; UserMistake names the setting that is wrong."""
    options: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    prices: dict[str, float | str] = {}
    for setting in settings:
        key, found, value = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not found:
            raise UserMistake(f"--set {setting}: expected key=value, such as --set batch=false or --set tlbi_ns=500")
        if key in _OPTIONS:
            options[key] = _switch(setting, value) if _OPTIONS[key] is bool else _number(setting, value, 0)
        elif key == "cache":
            machine[key] = _one_of(setting, value, {"warm": "warm", "cold": "cold"})
        elif key == "page_size":
            sizes = {"4k": PAGE_SIZE, "4096": PAGE_SIZE, "2m": HUGE_PAGE, str(HUGE_PAGE): HUGE_PAGE}
            machine[key] = _one_of(setting, value.lower(), sizes)
        elif key in _MACHINE:
            machine[key] = _number(setting, value, 1)
        else:
            prices[key] = value
    try:
        priced = profile.with_settings(prices)
    except UserMistake as mistake:
        raise UserMistake(f"{mistake}; options: {', '.join([*_OPTIONS, *sorted(_MACHINE)])}") from None
    return Setup(policy, priced, Options(**options), **machine)


def _switch(setting: str, value: str) -> bool:
    return bool(_one_of(setting, value.lower(), _SWITCHES))


def _one_of(setting: str, value: str, known: dict[str, Any]) -> Any:
    if value not in known:
        raise UserMistake(f"--set {setting}: expected one of {', '.join(known)}")
    return known[value]


def _number(setting: str, value: str, least: int) -> int:
    if not value.isdecimal() or not least <= int(value) < 1 << 32:
        raise UserMistake(f"--set {setting}: expected a whole number of {least} or more")
    return int(value)
