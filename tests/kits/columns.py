"""Columns of the probe's matrix that tests ask."""

from pagewarden.studies.probe.isolation import MatrixColumn

MEMFD, WINDOW, ISOLATED = (
    MatrixColumn("memfd", False),
    MatrixColumn("uffd-window", False),
    MatrixColumn("uffd-window", True),
)
