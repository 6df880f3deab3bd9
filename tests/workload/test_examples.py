"""The examples load, hold what their README says, and name no machine's paths."""

import re
from pathlib import Path

import pytest

from pagewarden.workload import load

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.parametrize(
    ("name", "form", "requests", "size", "writes"),
    [
        ("randrw.iolog", "fio iolog v2", 2000, 187293696, 831),
        ("sequential.iolog", "fio iolog v3", 768, 96 << 20, 0),
        ("ext4.blkparse", "blkparse", 284, 40622 << 10, 148),
        ("mixed.fio", "fio job", 2012, None, None),
    ],
)
def test_an_example(name: str, form: str, requests: int, size: int | None, writes: int | None) -> None:
    """Bytes of ext4.blkparse: its own summary says 8239 KiB read and 32383 KiB written."""
    workload = load(EXAMPLES / name)
    assert (workload.format, workload.requests) == (form, requests)
    assert size is None or (workload.bytes, int(workload.write.sum())) == (size, writes)
    assert f"| `{name}` | {form} | {requests} |" in (EXAMPLES / "README.md").read_text()


def test_each_example_is_small_described_and_without_paths() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name == "__pycache__":  # of the programs that were run
            continue
        assert path.stat().st_size < 300_000
        assert path.name == "README.md" or f"`{path.name}`" in readme
        if path.name != "README.md":
            assert not re.search(r"/(home|root|tmp|work)/", path.read_text())


def test_syncs_and_flushes_are_counted_apart() -> None:
    assert load(EXAMPLES / "randrw.iolog").skipped == {"sync": 26}
    assert load(EXAMPLES / "ext4.blkparse").skipped == {"flush": 14}


def test_the_log_s_clock_runs_in_nanoseconds() -> None:
    """fio 3.33 stamps in microseconds: 96 MiB in 768 reads took some tenths of a second, not hours."""
    times = load(EXAMPLES / "sequential.iolog").time_ns
    assert times is not None
    assert 1e6 < times[-1] - times[0] < 60e9
    assert (times[1:] >= times[:-1]).all()
