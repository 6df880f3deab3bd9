"""Every Python example and every command in the documents runs, and ends as the text says.

A comment behind a command says what it needs: `a minute` and `minutes` wait for PAGEWARDEN_LONG=1, `needs ...` names a
feature of the machine. `status 1` is the answer "no".
"""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.core

from live import require
from pagewarden.cost import load_profile, to_toml
from pagewarden.keep.keeper import KeepReport
from pagewarden.report.console import console
from pagewarden.report.docs import BLOCK, current, documents
from pagewarden.report.keep import print_kept
from pagewarden.report.serve import print_served
from pagewarden.vhost.hosts import ServeCounts
from verbs import COMMAND

ROOT = Path(__file__).parent.parent.parent
LONG = os.environ.get("PAGEWARDEN_LONG") == "1"


BRIEFLY = {"calibrate": ("--seconds", "0.3")}
"""What else a verb is told here: how long it measures changes nothing of what is to be seen."""
LINE = re.compile(r" {4}(pagewarden [^#]*?)(?: *; echo \$\?)?\s*(#.*)?")


class Shown(NamedTuple):
    """A command of a document, and what is said behind it."""

    where: str
    command: str
    comment: str


def commands() -> list[Shown]:
    """Indented lines that start with pagewarden, with what a comment behind them says."""
    found = []
    for path in documents(ROOT):
        lines = (LINE.fullmatch(line) for line in path.read_text().splitlines())
        found += [Shown(path.name, line[1].strip(), line[2] or "") for line in lines if line]
    return found


def pythons() -> list[tuple[str, str]]:
    """Blocks of Python in the documents."""
    found = []
    for path in documents(ROOT):
        blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
        found += [(path.name, block) for block in blocks]
    return found


BLOCKS = {
    block[5] for path in documents(ROOT) for block in BLOCK.finditer(path.read_text()) if block[5] and not block[2]
}
"""Commands that are run for what they print, which a document shows."""


INLINE = sorted({said for path in documents(ROOT) for said in re.findall(r"`pagewarden ([^`\n]+)`", path.read_text())})
"""Commands within sentences. They are not run: some lack a file, some take minutes."""


@pytest.mark.parametrize("said", INLINE)
def test_a_command_within_a_sentence_is_one_that_there_is(said: str) -> None:
    verb, words = COMMAND, said.split()
    while words and isinstance(verb, typer.core.TyperGroup) and words[0] in verb.commands:
        verb = verb.commands[words.pop(0)]
    options = {name for parameter in verb.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-") and word != "--"} <= options
    assert words == [] or words[0].startswith("-") or not isinstance(verb, typer.core.TyperGroup), "no such verb"


def test_something_is_found() -> None:
    assert len(INLINE) >= 30
    assert len(commands()) >= 15 and len(pythons()) >= 1
    verbs = {shown.command.split()[1] for shown in commands()}
    assert verbs == {
        "calibrate",
        "check",
        "compare",
        "migrate",
        "probe",
        "run",
        "sweep",
    }


@pytest.mark.parametrize("where", sorted({shown.where for shown in commands()}))
def test_commands_of_a_document_in_their_order(where: str, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "mine.toml").write_text(to_toml(load_profile("svm-epyc")))
    beside: list[subprocess.Popen[str]] = []
    try:
        for shown in commands():
            if shown.where != where or "minute" in shown.comment or shown.command in BLOCKS:
                continue
            if shown.command.endswith("&"):
                beside.append(started(shown, tmp_path))
            else:
                run(shown, tmp_path)
        for process in beside:
            out, err = process.communicate()
            assert process.returncode == 0, err or out[-2000:]
    finally:
        for process in beside:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("shown", [it for it in commands() if "minute" in it.comment], ids=lambda it: it.command)
@pytest.mark.skipif(not LONG, reason="takes minutes: PAGEWARDEN_LONG=1")
def test_command_that_takes_minutes(shown: Shown, tmp_path: Path) -> None:
    run(shown, tmp_path)


def run(shown: Shown, cwd: Path) -> None:
    words = shlex.split(shown.command)
    ended = subprocess.run(
        [sys.executable, "-m", *words, *BRIEFLY.get(words[1], ())],
        cwd=cwd,
        env={**os.environ, "XDG_CONFIG_HOME": str(cwd / "home")},
        capture_output=True,
        text=True,
    )
    if "needs" in shown.comment and ended.returncode == 2:
        require(False, ended.stderr)
    wanted = int(re.search(r"status (is )?1", shown.comment) is not None)
    assert ended.returncode == wanted, f"{shown.command}: {ended.stderr or ended.stdout[-2000:]}"


def started(shown: Shown, cwd: Path) -> "subprocess.Popen[str]":
    """One in the background, which says when others may come to it."""
    words = [sys.executable, "-m", *shlex.split(shown.command)[:-1]]
    process = subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    if "waiting" not in said:
        process.kill()
        process.communicate()
        require(False, said)
    return process


@pytest.mark.parametrize(("where", "code"), pythons())
def test_python(where: str, code: str) -> None:
    exec(compile(code, where, "exec"), {"__name__": "example"})


def test_generated_documents_and_blocks_are_current() -> None:
    """The slow blocks only with PAGEWARDEN_LONG=1."""
    stale = [path.name for path, text in current(ROOT, slow=LONG) if path.read_text() != text]
    assert not stale, "run: python -m pagewarden.report.docs" + " --all" * LONG


def test_blocks_are_marked_alike_everywhere() -> None:
    for path in documents(ROOT):
        text = path.read_text()
        assert 2 * len(BLOCK.findall(text)) == text.count("<!--"), path


def test_the_readme_tells_as_many_steps_as_it_shows() -> None:
    """The dead host of pKVM in 2022: in words above, as a listing, and in the matrix by the shortest of all ways."""
    text = (ROOT / "README.md").read_text()
    said = re.search(r"dead host: (\w+) steps, and no other attacker\s+needed \((\w+) by a core dump\)", text)
    listed = re.search(r"^host-never-panics fails, (\d+) steps, by strace:", text, re.MULTILINE)
    matrix = re.search(r"\[fails (\d+)\]\(docs/traces.md#pkvm-2022-host-never-panics\)", text)
    assert said and listed and matrix
    words = {"nine": 9, "ten": 10, "eleven": 11, "twelve": 12}
    assert [words[word] for word in said.groups()] == [int(listed[1]), int(matrix[1])]
    assert f"{matrix[1]} steps, by core-dump:" in (ROOT / "docs/traces.md").read_text()


def test_links_lead_somewhere() -> None:
    for path in (*documents(ROOT), ROOT / "examples/README.md"):
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", path.read_text()):
            if "://" not in target:
                there = path.parent / target if target else path
                assert there.exists(), f"{path.name}: {target}"
                assert not anchor or anchor in anchors(there), f"{path.name}: {target}#{anchor}"


@cache
def anchors(path: Path) -> set[str]:
    """Where a link into a document may lead: its headings, and what it names."""
    text = path.read_text()
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}
    return slugs | set(re.findall(r'id="([^"]+)"', text))


def test_every_page_has_its_place_in_the_site() -> None:
    index = (ROOT / "docs/index.md").read_text()
    listed = {line.rpartition("<")[2].rstrip(">") for line in index.splitlines()}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages | {"../README", "../CONTRIBUTING", "../CHANGELOG", "../examples/README"} <= listed


def test_every_verb_has_an_annotated_example() -> None:
    text = (ROOT / "docs/outputs.md").read_text()
    assert set(re.findall(r"^## (.*)$", text, re.MULTILINE)) == set(COMMAND.commands)  # type: ignore[attr-defined]


def test_summaries_of_servants_are_as_they_print_them(capsys: pytest.CaptureFixture[str]) -> None:
    """What no test of a document can run: it waits for a VMM."""
    kept = {"faults": 1204, "pages": 4096, "pages_ahead": 2892, "pages_removed": 12}
    print_kept(KeepReport(vms=2, counts=kept), console())
    served = ServeCounts()
    served.requests, served.carried = 2000, 187 << 20
    served.opened(96)
    served.closed(96, 0.012)
    served.opened(47872 - 96)
    served.max_open, served.pages_ever = 96, 1204
    print_served("iommu", served, console())
    text = (ROOT / "docs/outputs.md").read_text()
    assert all(line in text for line in capsys.readouterr().out.splitlines())
