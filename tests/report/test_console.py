"""A table on a narrow terminal: every number whole, in as many parts as it takes."""

import io

from pagewarden.report.console import console, table


def test_numbers_are_never_cut() -> None:
    names = [f"design-{n}" for n in range(9)]
    numbers = [f"{n},123..{n}4,567" for n in range(1, 10)]
    made = table("size", "what is done in this row of the table", *names, left=2)
    made.add_row("4 KiB", "a text of some length that has to give way to the numbers beside it", *numbers)
    out = console()
    out.width, out.file = 80, io.StringIO()
    out.print(made)
    lines = out.file.getvalue().splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80 and "\u2026" not in text
    assert all(text.count(word) == 1 for word in [*names, *numbers])
    assert text.count("4 KiB") >= 2, "each part says of what its numbers are"


def test_a_table_that_fits_is_one() -> None:
    made = table("design", "hops", "cost")
    made.add_row("bounce", "4", "1.63..8.69")
    out = console()
    out.width, out.file = 80, io.StringIO()
    out.print(made)
    assert out.file.getvalue().splitlines() == ["design  hops        cost", "bounce     4  1.63..8.69"]
