"""What a batch looks at before it commits."""

from types import SimpleNamespace

import numpy as np
import pytest

from pagewarden.virtio import requests
from pagewarden.virtio.work import ADDR, END, FIELDS, LEN, OUT_AT, STATUS
from pagewarden.vocab import PAGE_SIZE


@pytest.mark.parametrize(("places", "chains"), [(16, 3), (4, 2), (3, 1), (1, 0)])
def test_a_batch_ends_before_the_request_whose_pages_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, places: int, chains: int
) -> None:
    """Three requests: the first two have data and status in a page each, the last one in one page. What is past the
    places is left to the next batch, not served unseen."""
    monkeypatch.setattr(requests, "PIECES", places)
    pages = np.array([[2, 3], [5, 6], [8, 8]])
    segments, rows = np.zeros((3, 3), np.int64), np.zeros((3, FIELDS), np.int64)
    for chain, (first, last) in enumerate(pages.tolist()):
        segments[ADDR, chain], segments[LEN, chain] = first * PAGE_SIZE, (last - first) * PAGE_SIZE or 512
        rows[chain, OUT_AT], rows[chain, END], rows[chain, STATUS] = chain, chain + 1, last * PAGE_SIZE + 600
    x = SimpleNamespace(
        known=np.zeros(64, np.int64), segments=segments, rows=rows, pieces=np.zeros((2, 16), np.int64), chains=3
    )
    count = requests._probe(x, 0)
    assert x.chains == chains
    looked = (x.pieces[ADDR, :count] // PAGE_SIZE).tolist()
    assert {page for pair in pages[:chains].tolist() for page in pair} <= set(looked)
    assert x.pieces[LEN, :count].tolist() == [1] * count and count == min(places, 5)
