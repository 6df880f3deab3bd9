"""What the writers for other checkers share: the names of a system's fields, values, seats and actors."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from pagewarden.check.export.rules import GuardedRule, rules
from pagewarden.check.page.local import Local
from pagewarden.check.page.moves import ALL, LAW, Seats
from pagewarden.check.page.system import CheckedSystem, Setting, asked, build
from pagewarden.law import Page
from pagewarden.vocab import UserMistake


@dataclass(frozen=True)
class Model:
    """A system to be written out. asserts: the properties whose violation (or, of a `sometimes`, whose first showing)
    is an error; without any, only states and transitions are counted."""

    checked: CheckedSystem
    asserts: tuple[str, ...]

    @property
    def setting(self) -> Setting:
        return self.checked.setting

    @property
    def local(self) -> Local:
        return self.checked.locals[0]

    @cached_property
    def rules(self) -> list[GuardedRule]:
        return rules(self.checked)

    @cached_property
    def fields(self) -> dict[str, list[Any]]:
        """The page's fields that take more than one value, with the values."""
        laws = np.unique(self.local.rows()[:, LAW])
        pages = [self.checked.table.pages[law] for law in laws]
        values = {name: sorted({page[index] for page in pages}) for index, name in enumerate(Page._fields)}
        return {name: found for name, found in values.items() if len(found) > 1}

    @property
    def start(self) -> dict[str, Any]:
        page = self.checked.table.pages[0]
        return {name: getattr(page, name) for name in self.fields}

    @cached_property
    def vcpu_seats(self) -> list[str]:
        return seat_names(self.local.moves.vcpu)

    @cached_property
    def procedure_seats(self) -> list[str]:
        return seat_names(self.local.moves.procedure)

    @property
    def locks(self) -> list[str]:
        """The locks that anybody takes, as words of the languages."""
        return [lock_name(name) for name in self.local.moves.locks]

    @property
    def holds(self) -> bool:
        """Whether the stranger ever holds a frame with its single operations."""
        return any(rule.actor == "stranger" and rule.to == 1 for rule in self.rules)

    def teardown_seats(self) -> list[int]:
        """Seats of the stranger's procedure during which no vCPU runs."""
        seats = enumerate(self.local.moves.procedure.list)
        return [number for number, seat in seats if seat is not None and seat[0].role == "teardown"]

    @property
    def heading(self) -> list[str]:
        """What it is a model of, for comments."""
        setting = self.setting
        return [
            f"{setting.policy.name}, {setting.design}: {setting.pages} pages, {setting.vcpus} vCPUs",
            f"strangers: {', '.join(setting.strangers) or 'none'}",
            f"asserted: {', '.join(self.asserts) or 'nothing'}",
        ]

    def asked(self, rule: GuardedRule) -> dict[str, tuple[Any, ...]]:
        """The fields that a rule asks for, with the values that it takes: those that may have any are left out."""
        fields = self.fields
        return {name: v for name, v in rule.when.items() if name in fields and len(v) < len(fields[name])}

    def error(self, rule: GuardedRule) -> str:
        """The properties that a rule's action decides, of those asserted."""
        return ", ".join(name for name in rule.shows if name in self.asserts)

    def title(self, rule: GuardedRule) -> str:
        """Who does what, for people."""
        what = "no page" if rule.op is None else rule.op.key
        return f"{'vCPU' if rule.actor == 'vcpu' else 'stranger'}, {rule.name}: {what}"


def model(setting: Setting, asserts: Iterable[str] = ()) -> Model:
    """The model of a setting, without symmetry. UserMistake: its requests go through a pool, or an unknown property."""
    made = Model(build(replace(setting, symmetric=False)), asked(tuple(asserts)))
    if len(made.checked.locals) > 1:
        raise UserMistake(f"{setting.design} has two kinds of pages, which an export cannot say; export another design")
    return made


def seat_names(seats: Seats) -> list[str]:
    """A name for each seat: what is about to be done there, numbered where several are alike."""
    names = ["idle"]
    for seat in seats.list[1:]:
        assert seat is not None
        place, adrift = seat
        what = "lock" if place.op is None else place.op.key
        name = f"{place.role}_{what}" + ("_adrift" if adrift else "")
        alike = sum(known == name or known.startswith(f"{name}__") for known in names)
        names.append(f"{name}__{alike + 1}" if alike else name)
    return names


def constant(field: str, value: Any) -> str:
    """The name of a value of an enumerated field; plain numbers and truths are written as such."""
    if isinstance(value, Enum):
        return f"{field}_{value.name}"
    return str(value).lower()


def adrift_pairs(seats: Seats) -> list[tuple[int, int]]:
    """Seats with what they become when the page leaves the frame that their actor holds."""
    return [(seat, int(after)) for seat, after in enumerate(seats.adrift) if seat != after]


def late_pairs(seats: Seats) -> list[tuple[int, int]]:
    """Seats with what they become when what was looked up has changed."""
    return [(seat, int(after)) for seat, after in enumerate(seats.late) if seat != after]


def lock_room(rule: GuardedRule) -> Iterator[str]:
    """What must be so of the locks that a rule takes."""
    for name, units in rule.locks.items():
        if units > 0:
            yield f"{lock_name(name)} <= {ALL - units}"


def lock_after(lock: str, units: int) -> str:
    """What is in use of a lock after that change."""
    return f"{lock} {'-' if units < 0 else '+'} {abs(units)}"


def lock_name(name: str) -> str:
    """A lock as a word of the languages."""
    return f"lock_{name.replace(' ', '_')}"
