"""docs/ says what the law says."""

from pathlib import Path

from pagewarden.law import EVERY, NAMES
from pagewarden.vocab import Event

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_law_document_names_every_policy_and_mechanism() -> None:
    text = (DOCS / "law.md").read_text()
    assert all(f"`{name}`" in text for name in (*EVERY, *NAMES))


def test_json_document_names_every_event() -> None:
    text = (DOCS / "json.md").read_text()
    assert all(f"`{event.key}`" in text for event in Event)
