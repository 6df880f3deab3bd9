"""I/O addresses into a window by a table of what is lent. Compiled, plain loops only.

An entry is 0 where an I/O page is not lent, else OPEN, with WRITABLE where the device may write, and the page of the
window above both; a table is known by its address. Whoever uses one has seen to it that all pages lie in it.
"""

from typing import Any

from pagewarden.abi.virtio import VIRTQ_DESC_F_WRITE
from pagewarden.kernel.guarded import load64
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit

OPEN, WRITABLE, SHIFT = 1, 2, 2
NOT_LENT, NO_ROOM = -1, -2
BY_FLAGS = 0
"""In place of what a page is needed for: what the descriptor says."""


def _translate(table: int, places: Any, first: int, stop: int, need: int, out: Any, at: int) -> int:
    """Columns [first, stop) of places into columns of out from `at` on; the next column, or NOT_LENT, or NO_ROOM in
    out."""
    begin = at
    for k in range(first, stop):
        start, length = places[0, k], places[1, k]
        while length > 0:
            page, inside = start // PAGE_SIZE, start % PAGE_SIZE
            part, entry = min(length, PAGE_SIZE - inside), load64(table + 8 * page)
            if entry & need != need:
                return NOT_LENT
            to = (entry >> SHIFT) * PAGE_SIZE + inside
            if at > begin and out[0, at - 1] + out[1, at - 1] == to:
                out[1, at - 1] += part
            elif at == out.shape[1]:
                return NO_ROOM
            else:
                out[0, at], out[1, at] = to, part
                at += 1
            start += part
            length -= part
    return at


def _absent(table: int, places: Any, count: int, need: int, missing: Any) -> int:
    """Pages of the places that are not lent as needed, into rows of missing, with 1 where to be written; how many, as
    far as there is room."""
    lost = 0
    for k in range(count):
        want = need
        if need == BY_FLAGS:
            want = OPEN | WRITABLE if places[2, k] & VIRTQ_DESC_F_WRITE else OPEN
        for page in range(places[0, k] // PAGE_SIZE, (places[0, k] + places[1, k] - 1) // PAGE_SIZE + 1):
            if load64(table + 8 * page) & want != want:
                if lost and missing[lost - 1, 0] == page:
                    missing[lost - 1, 1] |= int(want != OPEN)
                    continue
                if lost == len(missing):
                    return lost
                missing[lost, 0], missing[lost, 1] = page, int(want != OPEN)
                lost += 1
    return lost


def _translate_runs(table: int, runs: Any, count: int, places: Any, moved: Any, out: Any) -> bool:
    """Runs (port.VectoredView.transfer) as the window has them: four columns of moved, of places in out. False: a page
    is not lent so, or there is no room."""
    at = 0
    for k in range(count):
        moved[k, 0], moved[k, 1], moved[k, 2] = runs[k, 0], runs[k, 1], at
        at = translate(table, places, runs[k, 2], runs[k, 3], OPEN if runs[k, 0] == 1 else OPEN | WRITABLE, out, at)
        if at < 0:
            return False
        moved[k, 3] = at
    return True


translate: Any = njit(_translate)
absent: Any = njit(_absent)
translate_runs: Any = njit(_translate_runs)
translate_of: Any = njit("i8(i8,i8[:,:],i8,i8,i8,i8[:,::1],i8)", nogil=True)(_translate)
absent_of: Any = njit("i8(i8,i8[:,:],i8,i8,i8[:,::1])", nogil=True)(_absent)
