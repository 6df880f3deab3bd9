"""The table in docs/memory.md is what the register says."""

from pathlib import Path

from pagewarden.memory.choose import what_each_stops

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"


def test_the_table_of_what_each_backing_stops_is_the_registers() -> None:
    text = PAGE.read_text()
    start, end = "<!-- generated: what each backing stops -->\n", "\n<!-- end -->"
    assert text.split(start)[1].split(end)[0] == what_each_stops()
