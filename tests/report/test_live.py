"""What is said and drawn of something while it is done."""

import time
from itertools import pairwise

import pytest

from pagewarden.report import live


def test_a_course_has_its_end_and_no_more_points_than_a_page_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    course = live.Course()
    for count in range(100_000):
        now[0] = count * 0.1
        course.add(count, count % 7)
        assert course.points[-1] == (now[0], count, count % 7) and len(course.points) <= live.MOST
    apart = [later[0] - point[0] for point, later in pairwise(course.points[:-1])]
    assert course.points[0] == (0.0, 0, 0) and min(apart) > 0.9 and max(apart) < 2.5 * min(apart)
