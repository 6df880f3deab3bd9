"""The verbs with little to do, what each needs, and what is wrong with an end."""

from dataclasses import dataclass
from pathlib import Path

from environments import FILES, HOME, KERNEL, NOTHING, PROCESS, TMP, Environment, no_reader, some


@dataclass(frozen=True)
class Verb:
    """A command, its answer where nothing is missing, and what it needs; slow: only in the whole; no: the answer may be
    "no" where system calls are refused, which is what it asks about; silent: nothing goes to standard output."""

    arguments: tuple[str, ...]
    needs: frozenset[str] = NOTHING
    answer: int = 0
    slow: bool = False
    no: bool = False
    silent: bool = False


TINY = ("--pages", "1", "--vcpus", "1", "--stranger", "strace")
FAILS = ("check", *TINY, "--property", "host-never-reads-private", "--policy", "memfd")
RUN = ("run", "--requests", "2", "--cpu")
UNICORN = (*RUN, "unicorn")
TRACE = str(Path(__file__).parents[2] / "examples" / "randrw.iolog")
LIVE = some(KERNEL, TMP)
SOME = ("load", "*splice*", "tee*", "process_vm*", "io_uring-read*")
SOME_PATHS = ("probe", "--backing", "uffd-window", *(word for path in SOME for word in ("--path", path)))
VERBS = {
    "compare": Verb(("compare",)),
    "compare a file": Verb(("compare", TRACE)),
    "compare --explain": Verb(("compare", "--explain", "window", "--json")),
    "pool": Verb(("pool", TRACE, "--depth", "8")),
    "law": Verb(("law", "--op", "gup_pin")),
    "list": Verb(("list",)),
    "check holds": Verb(("check", *TINY, "--property", "host-never-panics")),
    "check fails": Verb(FAILS, answer=1),
    "check --trace": Verb((*FAILS, "--trace", "PLACE/trace"), some(FILES), 1),
    "check --export": Verb(("check", *TINY, "--export", "murphi", "PLACE/model.m"), some(FILES), silent=True),
    "check --matrix": Verb(("check", "--matrix", *TINY), some(KERNEL), slow=True),
    "check --minimal": Verb(("check", "--minimal", *TINY, "--property", "host-never-panics"), some(KERNEL), slow=True),
    "probe": Verb(("probe", "--backing", "uffd-window", "--path", "preadv"), some(KERNEL), no=True),
    "probe some": Verb(SOME_PATHS, some(KERNEL), slow=True, no=True),
    "probe --isolated": Verb(("probe", "--isolated"), some(KERNEL), no=True),
    "probe --kernels": Verb(("probe", "--kernels"), some(KERNEL, HOME)),
    "run": Verb(UNICORN, LIVE),
    "run kvm": Verb((*RUN, "kvm"), LIVE),
    "run interpreted": Verb((*RUN, "interpreted"), LIVE),
    "run --isolated": Verb((*UNICORN, "--isolated"), LIVE),
    "run --verify": Verb((*UNICORN, "--verify", "--json"), LIVE, slow=True),
    "run --disk": Verb((*UNICORN, "--disk", "PLACE/disk", "--overwrite", TRACE), LIVE | {FILES}),
    "run memfd": Verb((*UNICORN, "--backing", "memfd"), LIVE, 1, slow=True),
    "run memfd-secret": Verb((*UNICORN, "--backing", "memfd-secret"), LIVE),
    "run --all-designs": Verb((*UNICORN, "--all-designs"), LIVE, slow=True),
    "run --check-counts": Verb((*UNICORN, "--check-counts", "--requests", "8"), LIVE, slow=True),
    "run --predict": Verb(("run", "--cpu", "unicorn", "--predict"), LIVE, slow=True),
    "calibrate": Verb(("calibrate", "--no-busy", "--seconds", "0.1", "--cpu", "none"), some(KERNEL, HOME)),
    "calibrate --out": Verb(
        ("calibrate", "--seconds", "0.1", "--calls", "library", "--out", "PLACE/x.toml"), some(KERNEL, FILES), slow=True
    ),
}

WARM = ("compare a file", "compare --explain", "pool", "law", "check fails", "check holds", "run interpreted", "run")
"""After these there is nothing more to load or to compile."""
NO_READER = 141


def faults(verb: Verb, environment: Environment, status: int, out: str, err: str, left: list[str]) -> list[str]:
    """What is wrong with how a verb ended there."""
    allowed = {verb.answer, 2} if PROCESS in environment.lacks or verb.needs & environment.lacks else {verb.answer}
    if verb.no and KERNEL in environment.lacks:
        allowed.add(1)
    if environment.enter is no_reader and not verb.silent:
        allowed = {NO_READER, 2}
    wrong = [f"left: {each}" for each in left]
    if status not in allowed:
        wrong.append(f"status {status}")
    if "Traceback" in err or "bug" in err or "Exception ignored" in err:
        wrong.append("a traceback")
    if status == 2:
        *before, last = err.splitlines() or [""]
        if not last.startswith("pagewarden: ") or "; " not in last:
            wrong.append("the last line says not what and what to do")
        if any(line.startswith("pagewarden:") for line in before):
            wrong.append("more than one line")
    return wrong
