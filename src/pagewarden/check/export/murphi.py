"""The system in Murphi's language, for rumur and CMurphi."""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from pagewarden.check.export.model import Model, adrift_pairs, constant, late_pairs, lock_after, lock_name, lock_room
from pagewarden.check.export.rules import GuardedRule
from pagewarden.check.page.moves import ALL, Seats


def murphi(model: Model) -> str:
    """The text of a model: a rule for each case of each action, guarded by the fields of the page."""
    lines = [
        *(f"-- {line}" for line in model.heading),
        "",
        *_declarations(model),
        *_procedures(model),
        *_startstate(model),
    ]
    for rule in model.rules:
        lines += _rule(model, rule)
    return "\n".join(lines) + "\n"


def _field(name: str) -> str:
    """A field's name; one is a word of the language."""
    return "alias_" if name == "alias" else name


def _type(field: str, values: list[Any]) -> str:
    if isinstance(values[0], bool):
        return "boolean"
    if isinstance(values[0], Enum):
        return "enum {" + ", ".join(constant(field, value) for value in values) + "}"
    return f"{min(values)}..{max(values)}"


def _declarations(model: Model) -> Iterator[str]:
    yield f"const PAGES: {model.setting.pages}; VCPUS: {model.setting.vcpus};"
    yield "type"
    yield "  page_t: 0..PAGES-1;"
    yield "  vcpu_t: 0..VCPUS-1;"
    yield f"  vcpu_seat_t: enum {{{', '.join(f'v_{name}' for name in model.vcpu_seats)}}};"
    yield f"  act_seat_t: enum {{{', '.join(f'a_{name}' for name in model.procedure_seats)}}};"
    yield "var"
    yield "  page: array[page_t] of record"
    for name, values in model.fields.items():
        yield f"    {_field(name)}: {_type(name, values)};"
    if model.holds:
        yield "    held: boolean; -- the stranger holds the frame"
    yield "  end;"
    yield "  vcpu: array[vcpu_t] of record at: vcpu_seat_t; page: page_t; end;"
    yield "  act: record at: act_seat_t; page: page_t; end; -- the stranger's procedure"
    for lock in model.locks:
        yield f"  {lock}: 0..{ALL}; -- all of it, or how many share it"
    yield ""


def _procedures(model: Model) -> Iterator[str]:
    yield "-- the page is on another frame: whoever held the old one holds another object"
    yield from _changed_seats(model, "leave", adrift_pairs, model.holds)
    if any(map(late_pairs, (model.local.moves.vcpu, model.local.moves.procedure))):
        yield "-- what KVM has looked up of the page is late"
        yield from _changed_seats(model, "outdate", late_pairs, False)
    yield "function idle_page(p: page_t): boolean; begin"
    yield "  for v: vcpu_t do if vcpu[v].at != v_idle & vcpu[v].page = p then return false; end; end;"
    yield "  return true;"
    yield "end;"
    ends = [f"act.at = a_{model.procedure_seats[seat]}" for seat in model.teardown_seats()]
    yield "function dying(p: page_t): boolean; begin"
    yield f"  return act.page = p & ({' | '.join(ends) or 'false'});"
    yield "end;"
    yield ""


def _changed_seats(
    model: Model, name: str, pairs: Callable[[Seats], list[tuple[int, int]]], drop: bool
) -> Iterator[str]:
    """A procedure that moves whoever is at some seats on a page to others; drop: and the stranger's hold goes."""
    yield f"procedure {name}(p: page_t); begin"
    if drop:
        yield "  page[p].held := false;"
    yield "  for v: vcpu_t do if vcpu[v].page = p then"
    for seat, after in pairs(model.local.moves.vcpu):
        names = model.vcpu_seats
        yield f"    if vcpu[v].at = v_{names[seat]} then vcpu[v].at := v_{names[after]}; end;"
    yield "  end; end;"
    yield "  if act.page = p then"
    for seat, after in pairs(model.local.moves.procedure):
        names = model.procedure_seats
        yield f"    if act.at = a_{names[seat]} then act.at := a_{names[after]}; end;"
    yield "  end;"
    yield "end;"


def _startstate(model: Model) -> Iterator[str]:
    yield "startstate begin"
    yield "  for p: page_t do"
    for name, value in model.start.items():
        yield f"    page[p].{_field(name)} := {constant(name, value)};"
    if model.holds:
        yield "    page[p].held := false;"
    yield "  end;"
    yield "  for v: vcpu_t do vcpu[v].at := v_idle; vcpu[v].page := 0; end;"
    yield "  act.at := a_idle; act.page := 0;"
    for lock in model.locks:
        yield f"  {lock} := 0;"
    yield "end;"
    yield ""


def _rule(model: Model, rule: GuardedRule) -> Iterator[str]:
    actor = {"vcpu": "vcpu[v]", "procedure": "act"}.get(rule.actor)
    yield f"ruleset p: page_t{'; v: vcpu_t' if rule.actor == 'vcpu' else ''} do"
    yield f'  rule "{model.title(rule)}"'
    yield "    " + " & ".join(_guard(model, rule, actor))
    yield "  ==> begin"
    if error := model.error(rule):
        yield f'    error "{error}";'
    for name, value in rule.changes.items():
        yield f"    page[p].{_field(name)} := {constant(name, value)};"
    if rule.leaves:
        yield "    leave(p);"
    if rule.lates and late_pairs(model.local.moves.vcpu):
        yield "    outdate(p);"
    for name, units in rule.locks.items():
        yield f"    {lock_name(name)} := {lock_after(lock_name(name), units)};"
    yield from _moved(model, rule, actor)
    yield "  end;"
    yield "end;"


def _guard(model: Model, rule: GuardedRule, actor: str | None) -> Iterator[str]:
    if actor:
        yield f"{actor}.at = {_seat(model, rule, rule.at or 0)}"
        if rule.at:
            yield f"{actor}.page = p"
    elif rule.at is not None:
        yield f"page[p].held = {'true' if rule.at else 'false'}"
    if rule.actor == "vcpu":
        yield "!dying(p)"
    if rule.alone:
        yield "idle_page(p)"
    for name, values in model.asked(rule).items():
        tests = " | ".join(f"page[p].{_field(name)} = {constant(name, value)}" for value in values)
        yield f"({tests})" if len(values) > 1 else tests
    yield from lock_room(rule)
    if not actor and rule.at is None and not rule.when:
        yield "true"


def _seat(model: Model, rule: GuardedRule, seat: int) -> str:
    return f"v_{model.vcpu_seats[seat]}" if rule.actor == "vcpu" else f"a_{model.procedure_seats[seat]}"


def _moved(model: Model, rule: GuardedRule, actor: str | None) -> Iterator[str]:
    """Where the actor is afterwards; an idle one is at no page, which is written as the first."""
    if actor and rule.to is not None:
        yield f"    {actor}.at := {_seat(model, rule, rule.to)};"
        yield f"    {actor}.page := {'p' if rule.to else '0'};"
    elif rule.to is not None and rule.to != rule.at:
        yield f"    page[p].held := {'true' if rule.to else 'false'};"
