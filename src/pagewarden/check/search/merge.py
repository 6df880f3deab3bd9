"""Edges of the same effect put together, by a compiled loop."""

import numpy as np

from pagewarden.vocab.compiled import njit


@njit
def merge(first, target, demand, marks, weight):  # type: ignore[no-untyped-def]
    """Put edges of one source, target and demand together, in place, sorted within their source, with all their marks.
    weight: how many each stands for. Returns how many are left; first then counts those."""
    left = 0
    for state in range(len(first) - 1):
        begin, end = first[state], first[state + 1]
        keys = (target[begin:end].astype(np.uint64) << np.uint64(32)) | demand[begin:end].astype(np.uint64)
        order = np.argsort(keys, kind="mergesort")
        shown = marks[begin:end].copy()
        first[state] = left
        for i in range(len(order)):
            key = keys[order[i]]
            if i == 0 or key != keys[order[i - 1]]:
                target[left], demand[left] = np.int32(key >> np.uint64(32)), np.uint32(key & np.uint64(0xFFFF_FFFF))
                marks[left], weight[left] = shown[order[i]], 1
                left += 1
            else:
                marks[left - 1] |= shown[order[i]]
                weight[left - 1] += 1
    first[len(first) - 1] = left
    return left
