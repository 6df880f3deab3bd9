"""The system in TLA+, for TLC."""

from collections.abc import Iterator
from enum import Enum
from typing import Any

from pagewarden.check.export.model import Model, adrift_pairs, late_pairs, lock_after, lock_name, lock_room
from pagewarden.check.export.rules import GuardedRule


def tla(model: Model) -> str:
    """The text of a module named `model`: an action for each rule, on a page and, of a vCPU, by one of them."""
    setting = model.setting
    lines = [
        "---- MODULE model ----",
        "EXTENDS Naturals, TLC",
        *(f"\\* {line}" for line in model.heading),
        f"Pages == 0..{setting.pages - 1}",
        f"VCPUs == 0..{setting.vcpus - 1}",
        f"VARIABLES {', '.join(['page', 'vcpu', 'procedure', *model.locks])}",
        *_init(model),
    ]
    for number, rule in enumerate(model.rules):
        lines += _action(model, number, rule)
    lines += [*_next(model), "===="]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    return f'"{value.name}"' if isinstance(value, Enum) else str(value)


def _init(model: Model) -> Iterator[str]:
    fields = [f"{name} |-> {_value(value)}" for name, value in model.start.items()]
    fields += ["held |-> FALSE"] if model.holds else []
    yield f"Init == /\\ page = [p \\in Pages |-> [{', '.join(fields)}]]"
    yield '        /\\ vcpu = [v \\in VCPUs |-> [at |-> "idle", page |-> 0]]'
    yield '        /\\ procedure = [at |-> "idle", page |-> 0]'
    yield from (f"        /\\ {lock} = 0" for lock in model.locks)
    for actor, seats, names in (("vcpu", model.local.moves.vcpu, model.vcpu_seats),
                                ("procedure", model.local.moves.procedure, model.procedure_seats)):  # fmt: skip
        for change, pairs in (("Adrift", adrift_pairs(seats)), ("Late", late_pairs(seats))):
            cases = [f'at = "{names[seat]}" -> "{names[after]}"' for seat, after in pairs]
            yield f"{change}_{actor}(at) == " + (f"CASE {' [] '.join(cases)} [] OTHER -> at" if cases else "at")
    yield "Left(actor, p, at) == IF actor.page = p THEN [actor EXCEPT !.at = at] ELSE actor"
    ends = ", ".join(f'"{model.procedure_seats[seat]}"' for seat in model.teardown_seats())
    yield f"Dying(p) == procedure.page = p /\\ procedure.at \\in {{{ends}}}"
    yield 'Idle(p) == \\A v \\in VCPUs: ~(vcpu[v].at # "idle" /\\ vcpu[v].page = p)'  # an `or` would count twice


def _action(model: Model, number: int, rule: GuardedRule) -> Iterator[str]:
    yield f"\\* {model.title(rule)}"
    terms = [*_guard(model, rule), *([f'Assert(FALSE, "{model.error(rule)}")'] if model.error(rule) else [])]
    changed = [f"![p].{name} = {_value(value)}" for name, value in rule.changes.items()]
    if model.holds and rule.leaves:
        changed.append("![p].held = FALSE")
    elif rule.actor == "stranger" and rule.to != rule.at:
        changed.append(f"![p].held = {_value(bool(rule.to))}")
    terms.append(f"page' = [page EXCEPT {', '.join(changed)}]" if changed else "UNCHANGED page")
    vcpus, procedure = ("vcpu", "procedure")
    for change in [*(["Adrift"] if rule.leaves else []), *(["Late"] if rule.lates and model.locks else [])]:
        vcpus = f"[w \\in VCPUs |-> Left({vcpus}[w], p, {change}_vcpu({vcpus}[w].at))]"
        procedure = f"Left({procedure}, p, {change}_procedure(({procedure}).at))"
    names = model.vcpu_seats if rule.actor == "vcpu" else model.procedure_seats
    if rule.actor != "stranger" and rule.to is not None:
        seat = f'[at |-> "{names[rule.to]}", page |-> {"p" if rule.to else "0"}]'
        if rule.actor == "vcpu":
            vcpus = f"[{vcpus} EXCEPT ![v] = {seat}]"
        else:
            procedure = seat
    units = {lock_name(name): change for name, change in rule.locks.items()}
    terms += [f"vcpu' = {vcpus}", f"procedure' = {procedure}"]
    terms += [f"{lock}' = {lock_after(lock, units.get(lock, 0))}" for lock in model.locks]
    yield f"R{number}(p{', v' if rule.actor == 'vcpu' else ''}) == /\\ " + " /\\ ".join(terms)


def _guard(model: Model, rule: GuardedRule) -> Iterator[str]:
    if rule.actor == "stranger":
        if rule.at is not None:
            yield f"page[p].held = {_value(bool(rule.at))}"
    else:
        actor, names = ("vcpu[v]", model.vcpu_seats) if rule.actor == "vcpu" else ("procedure", model.procedure_seats)
        yield f'{actor}.at = "{names[rule.at or 0]}"'
        if rule.at:
            yield f"{actor}.page = p"
    if rule.actor == "vcpu":
        yield "~Dying(p)"
    if rule.alone:
        yield "Idle(p)"
    for name, values in model.asked(rule).items():
        yield f"page[p].{name} \\in {{{', '.join(map(_value, values))}}}"
    yield from lock_room(rule)


def _next(model: Model) -> Iterator[str]:
    yield "Next == \\E p \\in Pages:"
    for number, rule in enumerate(model.rules):
        yield f"  \\/ \\E v \\in VCPUs: R{number}(p, v)" if rule.actor == "vcpu" else f"  \\/ R{number}(p)"
