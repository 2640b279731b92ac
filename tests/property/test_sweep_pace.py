"""The pace of hosts in a sweep: never faster than the rate, whatever holds the sweep up, and never slower without need."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.scope.pacing import MARGIN
from processors.scan.sweep.pace import SLACK, Timetable


@given(
    hosts=st.integers(1, 12),
    rounds=st.integers(1, 30),
    rate=st.sampled_from((5.0, 40.0, 500.0)),
    delays=st.lists(st.sampled_from((0.0, 0.0, 0.0, 0.001, 0.3, 5.0)), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 50), min_size=1, max_size=10),
)
def test_no_host_is_probed_faster_than_its_rate(hosts: int, rounds: int, rate: float, delays: list[float], cuts: list[int]) -> None:
    """As the sweep goes: it takes what is due, waits for the budget, which may cut the batch, and may be held up anywhere."""
    now, table = 1_000.0, Timetable(hosts, rate, 1_000.0)
    moments_of: dict[int, list[float]] = defaultdict(list)
    turns, places = np.divmod(np.arange(hosts * rounds), hosts)
    sent = step = 0
    while sent < len(places):
        now += delays[step % len(delays)]
        due = table.due(turns, places)
        table.late(float(due[sent]), now)
        due = table.due(turns, places)
        ready = int(np.searchsorted(due[sent:], now, side="right"))
        if ready == 0:
            now = float(due[sent])
            continue
        ready = min(ready, cuts[step % len(cuts)])
        step += 1
        now += delays[step % len(delays)]
        table.late(float(due[sent]), now)
        for place in places[sent : sent + ready]:
            moments_of[int(place)].append(now)
        sent += ready
    for moments in moments_of.values():
        assert (np.diff(moments) >= 1 / rate - SLACK - 1e-6).all(), "no two probes of a host are closer, but for what may be caught up"
        for first in moments:
            in_a_second = sum(first <= one < first + 1 - 1e-6 for one in moments)
            assert in_a_second <= max(rate * 1.05, rate + 1e-6)


@given(hosts=st.integers(1, 50), rounds=st.integers(1, 50), rate=st.floats(1, 1_000))
def test_without_delays_it_takes_little_longer_than_the_limit_says(hosts: int, rounds: int, rate: float) -> None:
    table = Timetable(hosts, rate, 0.0)
    last = table.due(np.array([rounds - 1]), np.array([hosts - 1]))[0]
    assert last <= rounds / rate / MARGIN
