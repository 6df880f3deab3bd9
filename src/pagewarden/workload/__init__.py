"""Workloads: the requests that designs are compared on, read from fio job files, fio iologs and block traces.

What stands below may be imported, and `workload.load` for what leaves a choice. `docs/workloads.md` has the forms.

    from pagewarden.workload import load

    requests = load("examples/randrw.iolog")
    print(requests.requests, requests.bytes, requests.notes)
"""

from pagewarden.workload.load import load
from pagewarden.workload.model import Workload, single

__all__ = ["Workload", "load", "single"]
