"""Procedures as data: the I/O designs of the mail, and what else happens to a guest's page."""

from pagewarden.designs.io import DESIGNS, design_named
from pagewarden.designs.life import PROCEDURES
from pagewarden.designs.program import Kind, Program, assemble, programs
from pagewarden.designs.steps import (
    RESOURCES,
    WORLDS,
    Copy,
    Do,
    Each,
    Give,
    Hop,
    Options,
    Procedure,
    Say,
    Step,
    Steps,
    Stop,
    Syscall,
    Take,
)  # fmt: skip

__all__ = [
    "DESIGNS", "PROCEDURES", "RESOURCES", "WORLDS", "Copy", "Do", "Each", "Give", "Hop", "Kind", "Options", "Procedure",
    "Program", "Say", "Step", "Steps", "Stop", "Syscall", "Take", "assemble", "design_named", "programs",
]  # fmt: skip
