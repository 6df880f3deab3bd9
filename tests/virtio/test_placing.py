"""Which pages of a descriptor are not lent, in a list that is shorter than they are many."""

from typing import Any

import numpy as np

from pagewarden.virtio.placing import OPEN, WRITABLE, absent_of
from pagewarden.vocab import PAGE_SIZE


def test_a_full_list_is_the_first_pages_and_their_last_is_marked_by_a_second_descriptor() -> None:
    table = np.zeros(64, np.uint64)
    table[1] = OPEN | WRITABLE
    places = np.array([[0, 2 * PAGE_SIZE, 8], [3 * PAGE_SIZE, 40 * PAGE_SIZE, 8], [0, 0, 2]])
    missing = np.zeros((3, 2), np.int64)

    def lost(*which: int) -> Any:
        missing[:] = -1
        chosen = np.ascontiguousarray(places[:, list(which)])
        return missing[: absent_of(table.ctypes.data, chosen, len(which), 0, missing)].tolist()

    assert lost(0) == [[0, 0], [2, 0]]  # page 1 is lent
    assert lost(0, 1) == [[0, 0], [2, 0], [3, 0]]
    assert lost(2, 2) == [[0, 1]]
    places[:, 2] = 2 * PAGE_SIZE, 8, 2  # to be written
    assert lost(0, 2) == [[0, 0], [2, 1]]
