"""The system in Promela, for SPIN: a process a vCPU and two for the stranger; seats are labels in the text."""

from collections.abc import Iterator
from enum import Enum

from pagewarden.check.export.model import Model, constant, lock_after, lock_name, lock_room
from pagewarden.check.export.rules import GuardedRule
from pagewarden.check.page.moves import ALL, Seats


def promela(model: Model) -> str:
    """The text of a model: every action is one d_step, guarded by the fields of the page."""
    lines = [
        "/* " + "\n   ".join(model.heading) + " */",
        "",
        *_declarations(model),
        *_process(model, "vcpu", model.local.moves.vcpu, model.vcpu_seats, model.setting.vcpus),
        *_process(model, "procedure", model.local.moves.procedure, model.procedure_seats, 1),
        *_stranger(model),
    ]
    return "\n".join(lines) + "\n"


def _declarations(model: Model) -> Iterator[str]:
    pages, actors = model.setting.pages, model.setting.vcpus + 1
    for name, values in model.fields.items():
        if isinstance(values[0], Enum):
            yield "\n".join(f"#define {constant(name, value)} {int(value)}" for value in values)
    yield "typedef page_s {"
    for name, values in model.fields.items():
        bits = max(int(value) for value in values).bit_length()
        yield f"  bool {name};" if isinstance(values[0], bool) else f"  unsigned {name} : {bits};"
    if model.holds:
        yield "  bool held; /* the stranger holds the frame */"
    start = "; ".join(f"page[p].{name} = {constant(name, value)}" for name, value in model.start.items())
    yield f"}}\npage_s page[{pages}];"
    yield f"#define NOWHERE {pages}"
    yield f"byte where[{actors}]; /* the page that a vCPU, or (last) the stranger's procedure, is at work on */"
    yield f"byte grip[{actors}]; /* 0 none; of a frame: 1 held, 2 that the page has left; of a look-up: 3, 4 late */"
    yield "byte dying = NOWHERE; /* the page of a guest that is torn down */"
    idle = " && ".join(f"where[{number}] != (p)" for number in range(actors - 1))
    yield f"#define idle_page(p) ({idle})"
    lets = "if :: grip[{0}] == 1 && where[{0}] == p -> grip[{0}] = 2 :: else fi;"
    adrift = " ".join(lets.format(number) for number in range(actors))
    outdated = " ".join(lets.format(number).replace("== 1", "== 3").replace("= 2", "= 4") for number in range(actors))
    for lock in model.locks:
        yield f"byte {lock}; /* {ALL}: all of it, or how many share it */"
    held = "page[p].held = 0; " if model.holds else ""
    yield f"inline leave(p) {{ {held}{adrift} }}"
    if model.locks:
        yield f"inline outdate(p) {{ {outdated} }}"
    yield f"inline fresh(p) {{ {start} }}"
    begin = " ".join(f"fresh({page});" for page in range(pages))
    nowhere = " ".join(f"where[{number}] = NOWHERE;" for number in range(actors))
    runs = " ".join(["run vcpu();"] * (actors - 1) + ["run procedure(); run stranger();"])
    yield f"init {{ atomic {{ {begin} {nowhere} {runs} }} }}"
    yield ""


def _process(model: Model, actor: str, seats: Seats, names: list[str], count: int) -> Iterator[str]:
    """A process whose labels are seats; twins of a seat share its label and differ in the actor's grip."""
    me = "(_pid - 1)"
    yield f"proctype {actor}() {{"
    for number, seat in enumerate(seats.list):
        if seat is not None and seat[1]:
            continue
        alike = list(dict.fromkeys((number, int(seats.adrift[number]), int(seats.late[number]))))
        here = [rule for rule in model.rules if rule.actor == actor and rule.at in alike]
        if not here:
            yield f"{names[number]}: false;"
            continue
        yield f"{names[number]}: if"
        for rule in here:
            for page in range(model.setting.pages) if seat is None else [f"where[{me}]"]:
                yield from _option(model, rule, str(page), me, seats, names)
        yield "  fi;"
    yield "}"
    yield ""


def _option(model: Model, rule: GuardedRule, page: str, me: str, seats: Seats, names: list[str]) -> Iterator[str]:
    target = seats.list[rule.to or 0]
    label = "idle" if target is None else names[seats.number[target[0], False]]
    assigns = list(_assigns(model, rule, page))
    if rule.at == 0 and target is not None:
        assigns.append(f"where[{me}] = {page}")
    if target is None and rule.at:
        assigns.append(f"where[{me}] = NOWHERE")
    before, after = _grip(seats, rule.at or 0), _grip(seats, rule.to or 0)
    if before != after:
        assigns.append(f"grip[{me}] = {after}")
    dies = [seat is not None and seat[0].role == "teardown" for seat in (seats.list[rule.at or 0], target)]
    if rule.actor == "procedure" and dies[0] != dies[1]:
        assigns.append(f"dying = {page if dies[1] else 'NOWHERE'}")
    guard = list(_guard(model, rule, page))
    if rule.at and seats.list[rule.at] is not None and _grip(seats, rule.at):
        guard.insert(0, f"grip[{me}] == {_grip(seats, rule.at)}")
    if rule.actor == "vcpu":
        guard.append(f"dying != {page}")
    yield _step(model, rule, guard, assigns, label)


def _grip(seats: Seats, seat: int) -> int:
    """0: at this seat nobody holds anything; 1: a frame of the page; 2: one that the page has left; 3: what was looked
    up; 4: that has changed."""
    stands = seats.list[seat]
    return 0 if stands is None or not stands[0].twin else 1 + 2 * stands[0].stands.looked + stands[1]


def _stranger(model: Model) -> Iterator[str]:
    yield "proctype stranger() {"
    found = [rule for rule in model.rules if rule.actor == "stranger"]
    yield "idle: if" if found else "idle: false;"
    for rule in found:
        for page in range(model.setting.pages):
            guard = list(_guard(model, rule, str(page)))
            assigns = list(_assigns(model, rule, str(page)))
            if rule.at is not None:
                guard.insert(0, f"page[{page}].held == {rule.at}")
                if rule.to != rule.at:
                    assigns.append(f"page[{page}].held = {rule.to}")
            yield _step(model, rule, guard, assigns, "idle")
    yield "  fi;\n}" if found else "}"


def _guard(model: Model, rule: GuardedRule, page: str) -> Iterator[str]:
    if rule.alone:
        yield f"idle_page({page})"
    for name, values in model.asked(rule).items():
        tests = " || ".join(f"page[{page}].{name} == {constant(name, value)}" for value in values)
        yield f"({tests})" if len(values) > 1 else tests
    yield from lock_room(rule)


def _assigns(model: Model, rule: GuardedRule, page: str) -> Iterator[str]:
    if error := model.error(rule):
        yield f"assert(false) /* {error} */"
    for name, value in rule.changes.items():
        yield f"page[{page}].{name} = {constant(name, value)}"
    if rule.leaves:
        yield f"leave({page})"
    if rule.lates and model.locks:
        yield f"outdate({page})"
    for name, units in rule.locks.items():
        yield f"{lock_name(name)} = {lock_after(lock_name(name), units)}"


def _step(model: Model, rule: GuardedRule, guard: list[str], assigns: list[str], label: str) -> str:
    text = f"  /* {model.title(rule)} */\n"
    return text + f"  :: d_step {{ {' && '.join(guard) or 'true'} -> {'; '.join(assigns) or 'skip'} }}; goto {label}"
