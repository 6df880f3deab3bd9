"""The frame of every page: a title, the answer, tables, Vega-Lite charts, and the document itself.

A page needs no network: vl-convert bundles Vega, Vega-Lite and vega-embed into it, and its content security policy lets
it load nothing. Colours follow the reader's scheme, and paper is white. Every text of a document is escaped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from shlex import join
from typing import Any, TypeAlias

import msgspec

from pagewarden.report.documents.base import Document

Chart: TypeAlias = dict[str, Any]
"""A Vega-Lite specification."""
HERE = files("pagewarden.report.pages")
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


@dataclass(frozen=True)
class Panel:
    """A part of a page: what it shows in words, then a chart, or HTML that is already escaped; anchor: its id."""

    title: str
    about: str = ""
    chart: Chart | None = None
    html: str = ""
    anchor: str = ""

    @property
    def drawn(self) -> Chart | None:
        """The chart, unless it has no rows."""
        return self.chart if self.chart and self.chart["data"]["values"] else None


@dataclass(frozen=True)
class Sheet:
    """title; answer: the first sentence; facts: what it was asked of; sections."""

    title: str
    answer: str
    facts: str
    sections: Sequence[Panel]


def html(page: Sheet, document: Document) -> str:
    """The whole page as text."""
    charts = [section.chart for section in page.sections if section.drawn]
    numbers = iter(range(len(charts)))
    style = HERE.joinpath("frame.css").read_text()
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:">
<style>{style}</style></head><body>
<h1>{escape(page.title)}</h1><p class="answer">{escape(page.answer)}</p><p class="facts">{escape(page.facts)}</p>
{"".join(_section(section, numbers) for section in page.sections)}
<footer>Made by pagewarden {escape(document.version)} with <code>{escape(join(document.command))}</code>;
the numbers are those of --json, and stand in this file under id="document".</footer>
<script type="application/json" id="document">{data(document)}</script>
<script type="application/json" id="charts">{data(charts)}</script>
<script type="module">{_script()}</script>
</body></html>
"""


@cache
def _script() -> str:
    """What draws, and the libraries that it needs."""
    from vl_convert import javascript_bundle

    return javascript_bundle(HERE.joinpath("frame.js").read_text()).replace("</script", "<\\/script")


def data(value: Any) -> str:
    """JSON that ends no script element."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")


def _section(section: Panel, numbers: Iterable[int]) -> str:
    about = f"<p>{escape(section.about)}</p>" if section.about else ""
    nothing = "<p>Nothing to draw.</p>" if section.chart else ""
    chart = f'<div class="chart" id="chart-{next(iter(numbers))}"></div>' if section.drawn else nothing
    anchor = f' id="{section.anchor}"' if section.anchor else ""
    return f"<section{anchor}><h2>{escape(section.title)}</h2>{about}{chart}{section.html}</section>\n"


def chart(rows: Sequence[dict[str, Any]], **spec: Any) -> Chart:
    """A chart of rows, as wide as its page unless `width` is given."""
    return {
        "$schema": SCHEMA,
        "data": {"values": list(rows)},
        "width": "container",
        "autosize": {"type": "fit-x"},
        **spec,
    }


def axis(field: str, title: str, kind: str = "quantitative", **more: Any) -> dict[str, Any]:
    """An encoding channel of a field."""
    return {"field": field, "type": kind, "title": title, **more}


def told(mark: str, **more: Any) -> dict[str, Any]:
    """A mark that tells all of its row to who points at it."""
    return {"type": mark, "tooltip": {"content": "data"}, **more}


def choice(name: str, label: str, values: Iterable[str]) -> dict[str, Any]:
    """A parameter that the reader sets: one of these values, or all."""
    options = list(dict.fromkeys(values))
    return {
        "name": name, "value": None,
        "bind": {"input": "select", "name": f"{label} ", "options": [None, *options], "labels": ["all", *options]},
    }  # fmt: skip


def chosen(name: str, field: str) -> dict[str, Any]:
    """The rows that such a parameter leaves."""
    return {"filter": f"{name} == null || datum.{field} == {name}"}


def paragraphs(lines: Iterable[str]) -> str:
    """Each line of text in a paragraph of its own."""
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> str:
    """An HTML table, the first `left` columns to the left, numbers to the right."""

    def row(cells: Sequence[Any], tag: str) -> str:
        sides = (' class="left"' if number < left else "" for number in range(len(cells)))
        return "".join(f"<{tag}{side}>{escape(shown(cell))}</{tag}>" for side, cell in zip(sides, cells, strict=True))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f'<div class="wide"><table><thead><tr>{row(headers, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def shown(value: Any) -> str:
    """A cell's text: numbers with separators and three digits that count."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
