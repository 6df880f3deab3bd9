"""`pagewarden sweep --json`."""

from typing import Literal

from msgspec import Struct

from pagewarden.report.documents.base import Document, Pair


class SweptWorkload(Struct, frozen=True):
    """`setups`: combinations of policy, options and prices; each design has a point at each. `wins`: by design, at how
    many points of the workload no other design beats it at every price. `decides`: by price, at how
    many of those points the doubt with the cheapest hangs on it most."""

    workload: str
    points: int
    setups: int
    refused: int
    wins: dict[str, int]
    decides: dict[str, int]


class Swept(Document, kw_only=True, frozen=True):
    """`pagewarden sweep`: where the rows are, a point each, and who wins on each workload.

    `settings`: the values of each key of the grid's `[set]`. `prices`: by profile, from and to, those that none of them
    changes. `notes`: of traces of which much is left out.
    """

    verb: Literal["sweep"] = "sweep"
    out: str
    policies: list[str]
    settings: dict[str, list[str]]
    prices: dict[str, dict[str, Pair]]
    points: int
    workloads: list[SweptWorkload]
    notes: list[str]
