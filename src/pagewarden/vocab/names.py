"""Names that a user gives: what was meant, or what there is."""

from collections.abc import Iterable
from difflib import get_close_matches

from pagewarden.vocab.errors import UserMistake

MOST_LISTED = 30
"""Names that a message lists beside its guess."""


def one_of(kind: str, name: str, known: Iterable[str]) -> str:
    """The one of `known` that `name` is, `-` and `_` being the same; UserMistake offers the nearest, and lists all
    unless they are very many."""
    names = list(known)
    if name in names:
        return name
    alike = {_plain(each): each for each in names}
    if _plain(name) not in alike:
        near = did_you_mean(name, names)
        if near and len(names) > MOST_LISTED:
            raise UserMistake(f"no {kind} is called {name!r}; {near.strip(' ()')}")
        raise UserMistake(f"no {kind} is called {name!r}{near}; there are {', '.join(names)}")
    return alike[_plain(name)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean X?)`, or nothing."""
    alike = {_plain(each): each for each in known}
    near = get_close_matches(_plain(name), alike, n=1)
    return f" (did you mean {alike[near[0]]!r}?)" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
