"""docs/sources.md: what a rule cites can be looked up there, and what is there is cited."""

import json
import re
from pathlib import Path

import pytest

from pagewarden.law import BACKED, LOCKS, Op, policy_of, sources_of
from pagewarden.law.usages import ISOLATED
from pagewarden.report.lawdoc import anchor

ROOT = Path(__file__).parent.parent.parent
ROWS = re.findall(r'^\| <a id="([^"]+)"></a>(?:\[([^]]+)\]\((https://\S+)\)|([^|]+?)) \| (.+) \|$',
                  (ROOT / "docs/sources.md").read_text(), re.MULTILINE)  # fmt: skip
OURS = {"by definition", "own design"}


def cited() -> set[str]:
    """By the rules, and by the locks."""
    sources = [
        *(source for op in Op for source in sources_of(op)),
        *(it for lock in LOCKS.values() for it in lock.sources),
    ]
    return {source.partition(":")[0] for source in sources}


def test_every_source_of_a_rule_has_a_row_with_a_public_page() -> None:
    names = {linked or plain for _, linked, _, plain, _ in ROWS}
    assert cited() <= names
    assert {plain for _, _, _, plain, _ in ROWS if plain} == OURS


def test_anchors_are_those_that_the_law_links_to() -> None:
    anchors = [name for name, *_ in ROWS]
    assert anchors == [anchor(linked or plain) for _, linked, _, plain, _ in ROWS]
    assert len(set(anchors)) == len(anchors)
    linked = set(re.findall(r"sources\.md#([a-z0-9_-]+)", (ROOT / "docs/law.md").read_text()))
    assert linked == {anchor(name) for name in cited()}


def test_every_row_is_cited_by_a_rule_or_in_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert [name for _, linked, _, plain, _ in ROWS if (name := linked or plain) not in code] == []


def test_no_source_is_a_number_or_a_code_of_letters() -> None:
    """What only an unpublished list could resolve."""
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").glob("*.md")]:
        if path != Path(__file__):
            assert not re.search(r"statements? \d|\b(GM|PD|MN|OC|CT) [a-z_]", path.read_text()), path


@pytest.mark.parametrize(
    ("backing", "isolated"), [*((name, False) for name in BACKED), *((name, True) for name in ISOLATED)]
)
def test_what_is_said_to_be_seen_was_asked(backing: str, isolated: bool) -> None:
    """Of other kernels than this project's host (6.18), there is a record of every way that was tried."""
    tried = set()
    for file in (ROOT / "tests/lab/recorded").glob("*amd64.json"):
        rows = json.loads(file.read_text())["matrix"]
        if any((row["backing"], row["isolated"]) == (backing, isolated) and row["result"] != "UNTRIED" for row in rows):
            tried.add(re.split("[+-]", file.name)[0])
    assert set(policy_of(backing, isolated).asked) - {"6.18"} == tried
