"""What the checker says of the policies of the thread, and of faults put into the best of them."""

import pickle
from dataclasses import replace
from functools import cache

import pytest

from pagewarden.check.explain import in_words, listing, tell
from pagewarden.check.page.strangers import STRANGERS, stranger_named
from pagewarden.check.page.system import PROPERTIES, Setting, build, offered
from pagewarden.check.verdict import Report, Verdict, check
from pagewarden.designs import DESIGNS, Design, Hop, Options, Procedure, design_named
from pagewarden.law import POLICIES, Op, Outcome, Policy, policy_named
from pagewarden.law.properties import PROGRESS
from pagewarden.vocab import UserMistake


@cache
def checked(policy: Policy, design: str = "window", strangers: str = "all", search: str = "apart") -> Report:
    return check(Setting(policy, design_named(design), strangers=stranger_named(strangers)), search=search)


def verdicts(report: Report) -> dict[str, str]:
    return {verdict.name: verdict.verdict for verdict in report.verdicts}


def found(report: Report, name: str) -> Verdict:
    return next(verdict for verdict in report.verdicts if verdict.name == name)


@pytest.mark.parametrize("design", DESIGNS)
def test_hybrid_holds_everywhere(design: str) -> None:
    report = checked(POLICIES["hybrid"], design)
    assert report.exhausted and report.exit_code == 0
    assert set(verdicts(report).values()) == {"holds"}
    assert set(verdicts(report)) | set(report.absent) == set(PROPERTIES)


@pytest.mark.parametrize("name", ["uffd-window+isolated", "uffd-rwp+isolated"])
def test_an_untrusted_host_side_is_kept_out(name: str) -> None:
    """Whoever could pin a page finds it on another frame, also where only an IOTLB knows of the old one."""
    report = checked(policy_named(name))
    assert report.exhausted and report.exit_code == 0
    assert set(verdicts(report).values()) == {"holds"}


def test_a_region_of_the_device_s_own_is_as_safe_as_a_pool() -> None:
    pooled, proposed = (checked(POLICIES["memfd"], design, "strace") for design in ("bounce", "dmb"))
    assert verdicts(pooled) == verdicts(proposed) and verdicts(proposed)["host-never-reads-private"] == "fails"


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("memfd", "host-never-reads-private"),
        ("pkvm-2022", "host-never-panics"),
        ("pkvm", "host-never-destroys-private"),
        ("guest-memfd", "host-never-destroys-private"),
    ],
)
def test_verdicts_of_the_thread(name: str, broken: str) -> None:
    report = check(Setting(policy_named(name), vcpus=1), search="apart")
    assert verdicts(report)[broken] == "fails" and report.exit_code == 1


def test_pkvm_does_not_panic_and_gup_blocked_saves_pkvm_2022() -> None:
    assert verdicts(checked(POLICIES["pkvm"]))["host-never-panics"] == "holds"
    assert verdicts(checked(POLICIES["pkvm-2022"].with_("gup-blocked")))["host-never-panics"] == "holds"


def test_strace_panics_the_host_of_2022() -> None:
    """mail of 6 April 2022: process_vm_readv pins the page and reads it through kmap, where no fix-up is."""
    report = checked(POLICIES["pkvm-2022"], strangers="strace")
    verdict = found(report, "host-never-panics")
    told = tell(report, verdict)
    assert [step.move.op for step in told[-2:]] == [Op.GUP_PIN, Op.KMAP_READ]
    assert told[-1].step.outcome is Outcome.PANIC
    lines = listing(report, verdict)
    assert any("process_vm_readv" in line for line in lines)
    end = next(number for number, line in enumerate(lines) if "here it goes wrong: host-never-panics" in line)
    assert "the host kernel dies" in lines[end] and lines[end + 1].startswith("     rule: ")
    assert any("gup-blocked" in line for line in lines[end + 2 :])
    steps = in_words(report, verdict)
    assert len(steps) == len(verdict.path) == 9
    *_, effect, rule = steps[-1]
    assert effect.startswith("PANIC") and "mail of 6 April 2022" in rule


FAULTS = [  # policy, the mechanism that is taken away, what it was to prevent, strangers, length of the shortest way
    ("hybrid", "tlb-flushed", "host-never-reads-private", "touch", 9),  # no TLBI: read through what is cached
    ("hybrid", "refs-checked", "no-pin-left", "file-io", 9),  # a pin survives the change of hands
    ("hybrid", "iommu-guarded", "host-never-reads-private", "dma,file-io", 18),  # unshare races DMA: a stale IOTLB
    ("hybrid", "notifies", "no-stale-translation", "punch", 11),  # the notifier is not told on punch
    ("hybrid", "swap-fresh", "swap-is-fresh", "swap,swap-stale", 14),  # an earlier swap copy is accepted
    ("hybrid", "scrubs", "scrubbed-before-reuse", "migrate", 16),  # a page is not scrubbed before reuse
    ("hybrid", "state-checked", "no-stale-translation", "none", 12),  # double share: two vCPUs convert one page
    ("uffd-window", "moves-checked", "no-write-undone", "o-direct,migrate", 17),  # a page migrates while it is pinned
]


@pytest.mark.parametrize(("name", "mechanism", "broken", "strangers", "length"), FAULTS, ids=[row[1] for row in FAULTS])
def test_seeded_faults(name: str, mechanism: str, broken: str, strangers: str, length: int) -> None:
    report = checked(policy_named(name).without(mechanism), strangers=strangers)
    verdict = found(report, broken)
    assert verdict.verdict == "fails"
    assert len(verdict.path) == length
    assert len(tell(report, verdict)) == length
    assert verdicts(checked(policy_named(name), strangers=strangers))[broken] == "holds"


@pytest.mark.parametrize("name", ["hybrid", "pkvm-2022", "memfd-secret+mprotect"])
def test_apart_and_together_agree(name: str) -> None:
    setting = Setting(policy_named(name), vcpus=1, strangers=stranger_named("strace,file-io,dma,punch,touch"))
    together, apart = (check(setting, search=search) for search in ("together", "apart"))
    assert together.together and not apart.together and together.states > apart.states
    assert verdicts(together) == verdicts(apart)
    assert [len(verdict.path) for verdict in together.verdicts] == [len(verdict.path) for verdict in apart.verdicts]


@pytest.mark.parametrize("name", ["pkvm-2022", "memfd-secret+mprotect"])
def test_symmetry_changes_no_verdict(name: str) -> None:
    reports = [
        check(Setting(policy_named(name), vcpus=2, pages=2, strangers=("strace", "touch", "dma"), symmetric=symmetric),
              search="together")
        for symmetric in (True, False)
    ]  # fmt: skip
    assert verdicts(reports[0]) == verdicts(reports[1])
    assert [len(v.path) for v in reports[0].verdicts] == [len(v.path) for v in reports[1].verdicts]
    assert 3 * reports[0].states < reports[1].states
    for report in reports:
        for verdict in report.verdicts:
            assert len(tell(report, verdict)) == len(verdict.path)


BLIND = POLICIES["hybrid"].with_("mmu-lock").without("state-checked")


@pytest.mark.parametrize("policy", [POLICIES["guest-memfd"], POLICIES["memfd"], BLIND], ids=lambda policy: policy.name)
def test_states_that_are_alike_change_no_verdict_and_no_path(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = ("touch", "dma", "discard", "punch", "slot-delete")
    setting = Setting(policy, vcpus=1 + (policy is BLIND), strangers=strangers)
    names = tuple(name for name in PROPERTIES if name not in {*offered(setting), PROGRESS})
    reports = []
    for states in (1 << 30, 1 << 9):
        monkeypatch.setattr("pagewarden.check.page.local.FOLDS", states)
        reports.append(check(setting, names, search="apart"))
    whole, folded = ([(v.name, v.verdict, in_words(report, v)) for v in report.verdicts] for report in reports)
    assert whole == folded and "fails" in {verdict for _, verdict, _ in whole}
    assert 10 * reports[1].states < 7 * reports[0].states
    for local, other in zip(*(report.checked.locals for report in reports), strict=True):
        assert not (local.shown & ~other.shown).any()  # whoever shows a mark is known still


def test_limits_never_hold() -> None:
    from pagewarden.check.search.explorer import Limits

    report = check(Setting(POLICIES["hybrid"]), limits=Limits(states=1000), search="together")
    assert not report.exhausted and report.exit_code == 2
    assert "fails" not in verdicts(report).values() and verdicts(report)["host-never-panics"] == "open"


def test_names() -> None:
    with pytest.raises(UserMistake, match="strase"):
        stranger_named("strase")
    with pytest.raises(UserMistake, match="no property"):
        check(Setting(POLICIES["hybrid"]), names=("host-never-sleeps",))
    assert stranger_named("dma,strace") == ("strace", "dma") and stranger_named("all") == tuple(STRANGERS)
    assert build(Setting(POLICIES["pkvm"], strangers=())).locals[0].moves.procedure.list == [None]


def _forgetful(options: Options, policy: Policy, write: bool) -> Procedure:
    """The window design whose guest forgets to share: it begins at the doorbell."""
    known = DESIGNS["window"](options, policy, write)
    rings = next(n for n, step in enumerate(known.steps) if isinstance(step, Hop) and "doorbell" in step.text)
    return replace(known, name="forgetful", steps=known.steps[rings:])


def test_a_design_of_ones_own_is_an_argument() -> None:
    setting = Setting(POLICIES["hybrid"], Design("forgetful", _forgetful), 1, 1, strangers=())
    found = verdicts(check(setting))
    assert found["unshare-succeeds"] == "fails" and found["host-never-reads-private"] == "holds"
    assert verdicts(check(replace(setting, design=DESIGNS["window"])))["unshare-succeeds"] == "holds"
    assert pickle.loads(pickle.dumps(setting)) == setting  # for the processes of --minimal and --matrix
