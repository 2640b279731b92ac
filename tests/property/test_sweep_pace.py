"""The pace of hosts in a sweep: never faster than the rate, whatever holds the sweep up, and never slower without need."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.sweep.pace import SLACK, Timetable


@given(
    hosts=st.integers(1, 12),
    rounds=st.integers(1, 30),
    rate=st.sampled_from((5.0, 40.0, 500.0)),
    delays=st.lists(st.sampled_from((0.0, 0.0, 0.0, 0.001, 0.3, 5.0)), min_size=1, max_size=40),
)
def test_no_host_is_probed_faster_than_its_rate(hosts: int, rounds: int, rate: float, delays: list[float]) -> None:
    now, table = 1_000.0, Timetable(hosts, rate, 1_000.0)
    sent: dict[int, list[float]] = defaultdict(list)
    positions = [(number // hosts, number % hosts) for number in range(hosts * rounds)]
    for number, (turn, place) in enumerate(positions):
        (due,) = table.due(np.array([turn]), np.array([place]))
        now = max(now, float(due)) + delays[number % len(delays)]
        table.sent(float(due), now)
        sent[place].append(now)
    for moments in sent.values():
        gaps = np.diff(moments)
        assert (gaps >= 1 / rate - SLACK - 1e-6).all(), "no two probes of a host are closer, but for what may be caught up"
        for first in moments:
            in_a_second = sum(first <= one < first + 1 - 1e-6 for one in moments)
            assert in_a_second <= max(rate * 1.05, rate + 1e-6)


@given(hosts=st.integers(1, 50), rounds=st.integers(1, 50), rate=st.floats(1, 1_000))
def test_without_delays_it_takes_what_the_rate_says(hosts: int, rounds: int, rate: float) -> None:
    table = Timetable(hosts, rate, 0.0)
    last = table.due(np.array([rounds - 1]), np.array([hosts - 1]))[0]
    assert last <= rounds / rate
