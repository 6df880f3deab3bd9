"""Price profiles: TOML files in which every number has a source and every guess is a range with a reason."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec

from pagewarden.cost.interval import Interval
from pagewarden.cost.names import PRICES, REQUIRED, setting, unit
from pagewarden.vocab import UserMistake, did_you_mean, one_of

PriceSetting: TypeAlias = float | str
"""A number, or text: `500` or a range `1000..3000`."""


BY_USER = "set by the user"
"""The source of a price that is no profile's."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one event (or one byte) costs."""

    name: str
    value: Interval  # ns, or ns a byte: names.unit
    parameter: bool  # not known here: to be swept, and what depends on it is a range
    source: str  # where the number comes from; empty for an assumed range
    why: str  # of a parameter: why this range

    @property
    def setting(self) -> str:
        return setting(self.name)


@dataclass(frozen=True, slots=True)
class Profile:
    """The prices of one kind of hardware."""

    name: str
    about: str
    prices: Mapping[str, Price]  # by name, in the order of names.PRICES
    origin: str  # the file it comes from, or "shipped"

    def with_settings(self, settings: Mapping[str, PriceSetting]) -> "Profile":
        """This profile with some prices replaced: {"tlbi_ns": 500} or {"tlbi_ns": "1000..3000"}.

        UserMistake for an unknown key (with the nearest one) or a value that is no number >= 0 or range of such.
        """
        names = {setting(name): name for name in PRICES}
        prices = dict(self.prices)
        for key, value in settings.items():
            name = names[one_of("price", key, names)]
            interval = _setting(key, value)
            why = "" if interval.exact else "a range set by the user"
            prices[name] = Price(name, interval, not interval.exact, BY_USER, why)
        return replace(self, prices={name: prices[name] for name in PRICES if name in prices})

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the prices that are ranges."""
        return tuple(name for name, price in self.prices.items() if price.parameter)


def _setting(key: str, value: PriceSetting) -> Interval:
    parts = value.split("..") if isinstance(value, str) else [value, value]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    low, high = (numbers * 2)[:2] if len(numbers) in (1, 2) else (math.nan, math.nan)
    if isinstance(value, bool) or not 0 <= low <= high < math.inf:
        raise UserMistake(f"{key}={value}: expected a number of 0 or more, or a range LOW..HIGH")
    return Interval(low, high)


class _Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A price as it stands in a file; which keys go together is checked by _price."""

    parameter: bool = False
    ns: float | None = None
    low_ns: float | None = None
    high_ns: float | None = None
    ns_per_byte: float | None = None
    low_ns_per_byte: float | None = None
    high_ns_per_byte: float | None = None
    cycles: float | None = None
    ghz: float | None = None
    low_ghz: float | None = None
    high_ghz: float | None = None
    source: str | None = None
    why: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    about: str
    prices: dict[str, dict[str, object]]


def parse(text: str, origin: str) -> Profile:
    """A profile from TOML; UserMistake says which key is wrong and what was expected."""
    try:
        file = msgspec.convert(tomllib.loads(text), _File, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UserMistake(f"{origin}: {error}; see docs/profiles.md") from error
    for name in file.prices:
        if name not in PRICES:
            raise UserMistake(f"{origin}: prices.{name}: no such price{did_you_mean(name, PRICES)}")
    missing = [name for name in REQUIRED if name not in file.prices]
    if missing:
        raise UserMistake(f"{origin}: no price for {', '.join(missing)}; what is not known is a parameter with a range")
    prices = {name: _price(name, file.prices[name], origin) for name in PRICES if name in file.prices}
    return Profile(file.name, " ".join(file.about.split()), prices, origin)


def _price(name: str, table: dict[str, object], origin: str) -> Price:
    try:
        entry = msgspec.convert(table, _Entry, strict=True)
    except msgspec.ValidationError as error:  # its path would not name the price
        raise UserMistake(f"{origin}: prices.{name}: {error}; see docs/profiles.md") from error
    given = {key for key in entry.__struct_fields__ if getattr(entry, key) is not None and key != "parameter"}
    given |= {"parameter"} if entry.parameter else set()
    u = unit(name)
    shapes = [
        {u, "source"},
        {"parameter", f"low_{u}", f"high_{u}", "why"},
        {"parameter", f"low_{u}", f"high_{u}", "why", "source"},
    ]
    if u == "ns":
        shapes += [{"cycles", "ghz", "source"}, {"parameter", "cycles", "low_ghz", "high_ghz", "why", "source"}]
    if given not in shapes:
        raise UserMistake(f"{origin}: prices.{name}: found {_list(given)}; expected {' or '.join(map(_list, shapes))}")
    value = _value(entry)
    if not 0 <= value.low <= value.high < math.inf:
        raise UserMistake(
            f"{origin}: prices.{name}: found {value.low}..{value.high}; expected numbers of 0 or more, "
            "low not above high, and a clock above 0"
        )
    source, why = (entry.source or "").strip(), (entry.why or "").strip()
    if not (why if entry.parameter else source):
        raise UserMistake(f"{origin}: prices.{name}: the {'why' if entry.parameter else 'source'} is blank")
    return Price(name, value, entry.parameter, source, why)


def _list(keys: set[str]) -> str:
    return "{" + ", ".join(sorted(keys)) + "}"


def _value(entry: _Entry) -> Interval:
    """The price in ns or ns a byte; nan for a clock that is not above 0."""
    for low, high in (
        (entry.ns, entry.ns),
        (entry.ns_per_byte, entry.ns_per_byte),
        (entry.low_ns, entry.high_ns),
        (entry.low_ns_per_byte, entry.high_ns_per_byte),
    ):
        if low is not None and high is not None:
            return Interval(low, high)
    slow, fast = (entry.ghz, entry.ghz) if entry.ghz is not None else (entry.low_ghz, entry.high_ghz)
    if entry.cycles is None or not slow or not fast or slow < 0 or fast < 0:
        return Interval(math.nan, math.nan)
    return Interval(entry.cycles / fast, entry.cycles / slow)
