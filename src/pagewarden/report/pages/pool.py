"""The page of `pool`: how full it is over time, and the pool at its worst moment."""

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.pool import PoolSize
from pagewarden.report.pages.frame import Panel, Sheet, axis, chart, table, told
from pagewarden.workload.dma_mappings import SLOT

ROW = 64
"""Cells of the picture in a row."""


def page(found: PoolSize) -> Sheet:
    """The answer, the slots in use over time beside the pool's size, the worst moment, what was refused."""
    rows = [{"mapping": at, "slots": slots} for at, slots in found.over_time]
    x = axis("mapping", "mapping of the load")
    over = chart(
        rows, height=260, layer=[
            {"mark": {"type": "area", "interpolate": "step-after", "opacity": 0.5, "line": True},
             "encoding": {"x": x, "y": axis("slots", "slots in use")}},
            {"data": {"values": [{"size": found.slots, "says": f"{found.slots:,} slots"}]},
             "mark": {"type": "rule", "color": "#e45756", "strokeDash": [4, 3]},
             "encoding": {"y": axis("size", "slots in use"), "tooltip": {"field": "says"}}},
        ],
    )  # fmt: skip
    cells = [{"row": at // ROW, "column": at % ROW, "taken": share} for at, share in enumerate(found.worst_moment)]
    plain = {"axis": None, "scale": {"paddingInner": 0.05}}
    picture = chart(
        cells, height={"step": 14}, mark=told("rect", stroke="#8883"),
        encoding={"x": axis("column", "", "ordinal", **plain), "y": axis("row", "", "ordinal", **plain),
                  "color": axis("taken", "share in use", scale={"domain": [0, 1], "range": ["#8882", "#e45756"]})},
    )  # fmt: skip
    per = found.slots // max(len(cells), 1)
    size = f"{found.slots:,} slots ({in_bytes(found.slots * SLOT)})"
    refused = [(full.at, full.seconds, full.bytes, full.used, full.why) for full in found.full]
    heads = ("mapping", "s", "bytes", "slots in use", "why")
    return Sheet(
        f"pagewarden pool: {found.load}",
        f"{size} {f'suffice: at most {found.peak_slots:,} were in use' if found.fits else 'are too few'}. "
        f"{f'Smallest that fits: {found.swiotlb}' if found.swiotlb else 'No pool fits'}.",
        f"{found.mappings:,} mappings ({found.format}), {found.areas} area(s)",
        [Panel("The pool over time", "; ".join(["The most in use; the line is its size", *found.notes]), over),
         Panel("At its worst moment", f"Each cell is {per} slot(s), in the order of the pool.", picture),
         Panel("Refused", f"{found.refused:,} mappings; the first {len(refused)}:", html=table(heads, refused))
         if refused else Panel("Refused", "Nothing.")],
    )  # fmt: skip
