"""The same description gives the same bytes and the same words on every executor; here interpreted and Unicorn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest_kit import FlippingDevice, SilentDevice, random_disk, random_program, trace, unicorn_cpu
from pagewarden.guest.hypercalls import Number
from pagewarden.guest.program import BATCH
from pagewarden.vocab import GuestStopped


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(BATCH)), st.integers(1, 25), st.integers(1, 9), st.integers(0, 3), st.integers(0, 999))
def test_interpreted_and_unicorn_agree(design: str, requests: int, batch: int, base_page: int, seed: int) -> None:
    disk = random_disk(seed)
    described = random_program(design, disk, seed, requests, batch, base_page * 4096)
    one, other = trace(described, disk, None), trace(described, disk, unicorn_cpu)
    assert one == other
    assert one.outcome.requests == requests and one.outcome.failures == 0
    assert len(one.said) == described.outs


@pytest.mark.parametrize("design", BATCH)
def test_what_a_guest_says_to_make_a_request(design: str) -> None:
    disk = random_disk(1)
    said = trace(random_program(design, disk, requests=1, batch=1), disk, unicorn_cpu).said
    copying: list[object] = ["doorbell"]
    sharing: list[object] = [Number.SHARE, "doorbell", Number.UNSHARE]
    wanted = {"dma-buffer": copying, "bounce": copying, "iommu": sharing[1:]}.get(design, sharing)
    assert [words[0] for words in said] == [Number.SHARE, *wanted, Number.DONE]


@pytest.mark.parametrize("design", ["bounce", "window"])
def test_a_disk_that_lies_is_noticed(design: str) -> None:
    disk = random_disk(5)
    described = random_program(design, disk, requests=20, batch=4)
    one, other = (trace(described, disk, cpu, FlippingDevice) for cpu in (None, unicorn_cpu))
    assert one == other
    reads = int((described.requests["write"] == 0).sum())
    assert 0 < one.outcome.failures <= reads
    assert not described.requests[one.outcome.first_failure]["write"]


def test_a_device_that_never_answers_ends_the_run() -> None:
    disk = random_disk(1)
    with pytest.raises(GuestStopped, match="device used 0 of 3"):
        trace(random_program("window", disk), disk, None, SilentDevice)
