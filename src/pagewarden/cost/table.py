"""The price table of docs/profiles.md, made from the profiles themselves."""

from collections.abc import Sequence

from pagewarden.cost.names import PRICES, unit
from pagewarden.cost.profile import Price, Profile


def table(profiles: Sequence[Profile]) -> str:
    """Markdown: a table of all prices, parameters in italics, then each profile's sources and reasons."""
    head = ["price", *(profile.name for profile in profiles)]
    rows = [
        [
            f"`{name}` {'ns/byte' if unit(name) == 'ns_per_byte' else ''}".strip(),
            *(_cell(profile.prices.get(name)) for profile in profiles),
        ]
        for name in PRICES
    ]
    kept = [row for row in rows if any(row[1:])]
    lines = [_line(head), _line(["---"] * len(head)), *map(_line, kept)]
    return "\n".join(lines + [line for profile in profiles for line in _notes(profile)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(price: Price | None) -> str:
    if price is None:
        return ""
    return f"*{price.value}*" if price.parameter else str(price.value)


def _notes(profile: Profile) -> list[str]:
    """Sources first, then parameters; prices with the same note share a line."""
    texts: dict[str, list[str]] = {}
    for name, price in sorted(profile.prices.items(), key=lambda item: item[1].parameter):
        note = "; ".join(part for part in (price.why, f"from: {price.source}" if price.source else "") if part)
        texts.setdefault(("parameter: " if price.parameter else "") + note, []).append(f"`{name}`")
    return [
        "",
        f"### {profile.name}",
        profile.about,
        "",
        *(f"- {', '.join(names)}: {text}" for text, names in texts.items()),
    ]
