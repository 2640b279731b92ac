"""Pacing keeps its promise for every rate and every order of asking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.scope.pacing import MARGIN, Bucket, bucket, share, spend, wait, with_limit

RATES = st.floats(0.5, 5000)


def send_all(one: Bucket, asks: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Send each ask as early as the bucket lets it, `pause` seconds after the one before at the earliest."""
    now, sent = 0.0, []
    for pause, packets in asks:
        now += pause
        now += wait(one, now, packets)
        one = spend(one, now, packets)
        sent.append((now, packets))
    return sent


@given(RATES, st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), min_size=1, max_size=40))
def test_no_span_of_time_holds_more_than_its_rate_and_one_burst(rate: float, asks: list[tuple[float, int]]) -> None:
    sent = send_all(bucket(rate, 0.0), asks)
    burst = bucket(rate, 0.0).burst
    for i, (start, _) in enumerate(sent):
        for j in range(i, len(sent)):
            largest = max(burst, sent[j][1])  # what left last may still be owed
            packets = sum(count for _, count in sent[i : j + 1])
            assert packets <= burst + rate * (sent[j][0] - start) + largest + 1e-6


@given(RATES, st.integers(1, 200))
def test_single_packets_go_on_at_nearly_the_limit(limit: float, count: int) -> None:
    one = bucket(limit, 0.0)
    rate = limit * MARGIN
    finished = send_all(one, [(0.0, 1)] * count)[-1][0]
    assert finished == pytest.approx(max(0.0, (count - one.burst) / rate), abs=1e-6)


@given(RATES, st.integers(1, 50), st.floats(0, 100))
def test_after_the_wait_there_is_nothing_left_to_wait_for(rate: float, packets: int, now: float) -> None:
    one = spend(bucket(rate, 0.0), 0.0, packets)
    later = now + wait(one, now, packets)
    assert wait(one, later, packets) == pytest.approx(0.0, abs=1e-6)


@given(st.floats(1, 10_000), st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_the_shares_of_all_scanners_never_exceed_the_total(total: float, counts: list[int]) -> None:
    partitions = sum(counts)
    assert sum(share(total, owned, partitions) for owned in counts) <= total * (1 + 1e-9)


@given(RATES, RATES, st.integers(1, 50))
def test_a_new_rate_forgives_no_debt(rate: float, other: float, packets: int) -> None:
    owing = spend(bucket(rate, 0.0), 0.0, packets)
    assert with_limit(owing, other, 0.0).tokens <= owing.tokens or owing.tokens <= with_limit(owing, other, 0.0).burst
    assert with_limit(owing, other, 0.0).tokens <= owing.tokens + 1e-9


def test_a_clock_that_goes_back_gives_nothing() -> None:
    empty = spend(bucket(10, 100.0), 100.0, 2)  # of a burst of 1: one token is owed
    assert wait(empty, 50.0, 1) == pytest.approx(0.2 / MARGIN)
    assert spend(empty, 50.0, 0).at == pytest.approx(100.0)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="for ever"):
        bucket(0, 0.0)


@given(st.integers(1, 5000), st.lists(st.floats(0, 0.5), min_size=1, max_size=60))
def test_no_second_holds_more_than_a_twentieth_above_the_limit(limit: int, pauses: list[float]) -> None:
    """Whatever the pauses: the worst is a full bucket, and then all that comes."""
    asks = [(pause, 1) for pause in pauses for _ in range(max(1, limit // 20))]
    moments = [moment for moment, _ in send_all(bucket(limit, 0.0), asks)]
    last = 0
    for first, moment in enumerate(moments):
        while last < len(moments) and moments[last] < moment + 1 - 1e-6:
            last += 1
        assert last - first <= 1.05 * limit
