"""The price table of docs/profiles.md, made from the profiles themselves."""

import re
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


_ADDRESSES = (
    (r"lore:([^\s;,]+)", r"[lore:\1](https://lore.kernel.org/r/\1)"),
    (r"Linux commit ([0-9a-f]{8,})", r"[Linux commit \1](https://git.kernel.org/torvalds/c/\1)"),
    (r"(TUM-DSE/CVM_eval|tanakamura/sys-microbenchmark|intel/lkvs)", r"[\1](https://github.com/\1)"),
    (r"Dstack-TEE/dstack pull (\d+)", r"[Dstack-TEE/dstack pull \1](https://github.com/Dstack-TEE/dstack/pull/\1)"),
)
"""Words of a source, and the page that they lead to."""


def _linked(source: str) -> str:
    for words, page in _ADDRESSES:
        source = re.sub(words, page, source)
    return source


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
        note = "; ".join(part for part in (price.why, f"from: {_linked(price.source)}" if price.source else "") if part)
        texts.setdefault(("parameter: " if price.parameter else "") + note, []).append(f"`{name}`")
    return [
        "",
        f"### {profile.name}",
        profile.about,
        "",
        *(f"- {', '.join(names)}: {text}" for text, names in texts.items()),
    ]
