"""What a recorded run says of time, of a timeline written by hand."""

from itertools import pairwise

import numpy as np
import pytest

from pagewarden.report.times import MOMENTS, run_times
from pagewarden.studies.run.traced import COPIES, EXITS, OPEN
from pagewarden.vocab.timeline import CounterValue, Timeline, TimeSlice

TOOK = (1_000, 2_000, 3_000, 1_024_000)


def test_durations_are_those_of_requests_and_exits_by_kind() -> None:
    slices = [TimeSlice("request 1 of a doorbell", "read", 10, 10 + ns) for ns in TOOK]
    slices += [TimeSlice("request 2 of a doorbell", "write", 0, 5_000), TimeSlice(COPIES, "read", 10, 900)]
    slices += [TimeSlice(EXITS, "doorbell", 40, 41), TimeSlice(EXITS, "doorbell", 50, 50)]
    found = {(took.exit, took.kind): took for took in run_times(Timeline(slices)).durations}
    assert list(found) == [(False, "read"), (False, "write"), (True, "doorbell")]
    reads = found[False, "read"]
    assert reads.us_percentiles == pytest.approx(np.percentile(np.array(TOOK) / 1000, (50, 90, 99, 100)))
    for took, all_us in ((reads, [ns / 1000 for ns in TOOK]), (found[False, "write"], [5.0])):
        assert took.count == len(all_us) == sum(each.count for each in took.bins)
        for each in took.bins:
            assert each.count == sum(each.low_us <= us < each.high_us for us in all_us) > 0
            assert each.high_us / each.low_us == pytest.approx(2 ** (1 / 8))
    assert sum(each.count for each in found[True, "doorbell"].bins) == 2


def test_a_counter_over_time_keeps_its_peaks_and_its_end() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 1000, 3 * MOMENTS + 7).tolist()
    levels = [CounterValue(OPEN, 1_000_000 * (at + 1), value) for at, value in enumerate(values)]
    moments = run_times(Timeline([TimeSlice(EXITS, "share", 1_000_000, 10_000_000_000)], levels)).levels[OPEN]
    assert len(moments) <= MOMENTS + 1
    times = [at for at, _ in moments]
    assert times[0] == 0 and times == sorted(times) and moments[-1] == (9_999, values[-1])
    for (begin, most), (end, _) in pairwise(moments[:-1]):
        assert most == max(values[round(begin) : round(end)])
    few = run_times(Timeline([], levels[:5])).levels[OPEN]
    assert [value for _, value in few] == [*values[:5], values[4]]
