"""Procedures as data: the I/O designs of the mail, and what else happens to a guest's page.

What stands below may be imported, and `designs.convert` for a design of one's own (examples/own_design.py).

    from pagewarden.designs import DESIGNS, Options, said
    from pagewarden.law import policy_named

    request = DESIGNS["window"].build(Options(), policy_named("hybrid"), True)
    for line in request.steps:
        print(said(line))
"""

from pagewarden.designs.follow import follow
from pagewarden.designs.io import DESIGNS, WITH_PROPOSED, design_named
from pagewarden.designs.life import PROCEDURES
from pagewarden.designs.program import FlatProcedure, RowKind, assemble, programs
from pagewarden.designs.steps import (
    RESOURCES,
    WORLDS,
    Copy,
    Design,
    Do,
    Each,
    Give,
    Hop,
    Line,
    Options,
    Procedure,
    Say,
    Steps,
    Stop,
    Syscall,
    Take,
    said,
    walk,
)  # fmt: skip

__all__ = [
    "DESIGNS", "PROCEDURES", "RESOURCES", "WITH_PROPOSED", "WORLDS", "Copy", "Design", "Do", "Each",
    "FlatProcedure", "Give", "Hop", "Line", "Options", "Procedure", "RowKind", "Say", "Steps", "Stop",
    "Syscall", "Take", "assemble", "design_named", "follow", "programs", "said", "walk",
]  # fmt: skip
