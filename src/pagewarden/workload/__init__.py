"""Workloads: the requests that designs are compared on, read from fio job files, fio iologs and block traces."""

from pagewarden.workload.load import load
from pagewarden.workload.model import Workload, single

__all__ = ["Workload", "load", "single"]
