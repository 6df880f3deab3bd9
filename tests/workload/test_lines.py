"""Fields read all at once are what a reader of one line at a time finds."""

from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from pagewarden.workload.lines import MAX_DIGITS, Chunk

FIELDS = st.text("0123456789", min_size=1, max_size=MAX_DIGITS + 2) | st.text("019x:.-/", min_size=1, max_size=24)


@given(st.lists(FIELDS, min_size=1, max_size=8))
@example(["1x345678" + "12345678", "/2345678" + "9" * 16, "9" * MAX_DIGITS, "1" * (MAX_DIGITS + 1)])
def test_a_field_is_a_number_where_each_of_its_digits_is_one(texts: list[str]) -> None:
    chunk = Chunk(Path("trace"), 1, "\n".join(texts).encode() + b"\n")
    values, fine = chunk.decimal(chunk.field(0))
    assert fine.tolist() == [text.isdecimal() and len(text) <= MAX_DIGITS for text in texts]
    assert values[fine].tolist() == [int(text) for text, good in zip(texts, fine.tolist(), strict=True) if good]


@given(st.lists(FIELDS, min_size=1, max_size=8), st.sampled_from(["add", "1", "12345678", "123456789/"]))
def test_names_and_hashes_tell_fields_apart(texts: list[str], name: str) -> None:
    chunk = Chunk(Path("trace"), 1, "\n".join([*texts, name]).encode() + b"\n")
    assert chunk.equals(chunk.field(0), name.encode()).tolist() == [text == name for text in [*texts, name]]
    hashes = chunk.hash(chunk.field(0)).tolist()
    assert len(set(hashes)) == len({*texts, name})
