"""Windows: each id counts once, in any order, and the figures are what a database says of the same rows."""

from __future__ import annotations

import random
from datetime import timedelta

from processors.rollup.windows import Windows, late, quantile, rollup_key, sample_of, window_of
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.operations import AgentState, AgentStatus, Rollup
from tests.sightings import START, at


def change(number: int, seconds: float, kind: ChangeKind = ChangeKind.SERVICE_OPENED, zone: str = "default") -> AssetChange:
    return AssetChange(
        change_id=f"c{number}",
        kind=kind,
        zone=zone,
        address="198.18.0.7",
        subnet="198.18.0.0/24",
        revision=1,
        summary="",
        observed_at=at(seconds),
    )


def beat(agent: str, seconds: float, state: AgentState = AgentState.IDLE) -> AgentStatus:
    return AgentStatus(
        agent_id=agent, zone="default", state=state, version="1", engine="syn", capabilities=(), started_at=START, at=at(seconds)
    )


def count(windows: Windows, *records: tuple[AssetChange | AgentStatus, float]) -> list[Rollup]:
    for event, recorded in records:
        found = sample_of(event, at(recorded))
        if found is not None:
            windows.add(*found)
    return list(windows.news())


def last(rollups: list[Rollup]) -> dict[tuple[str, int], tuple[int, float]]:
    return {(rollup_key(one), int((one.window_start - START).total_seconds())): (one.count, one.value) for one in rollups}


def test_a_window_is_a_whole_minute() -> None:
    assert window_of(at(0)) == at(0)
    assert window_of(at(59.999)) == at(0)
    assert window_of(at(60)) == at(60)


def test_changes_a_minute_by_zone_and_kind() -> None:
    closed = ChangeKind.SERVICE_CLOSED
    found = last(count(Windows(), (change(1, 0), 1), (change(2, 59), 61), (change(3, 60), 61), (change(4, 5, closed, "lab"), 6)))
    assert found["changes|default|service_opened", 0] == (2, 2.0)
    assert found["changes|default|service_opened", 60] == (1, 1.0)
    assert found["changes|lab|service_closed", 0] == (1, 1.0)


def test_the_same_change_counts_once() -> None:
    windows = Windows()
    first = count(windows, (change(1, 0), 1), (change(1, 0), 1))
    assert last(first)["changes|default|service_opened", 0] == (1, 1.0)
    assert count(windows, (change(1, 0), 2)) == []


def test_agents_alive_are_counted_by_name_and_not_once_stopped() -> None:
    rows = (beat("a", 1), 1.0), (beat("a", 31), 31.0), (beat("b", 2), 2.0), (beat("c", 3, AgentState.STOPPED), 3.0)
    assert last(count(Windows(), *rows)) == {("agents_alive|default|alive", 0): (2, 2.0)}


def test_percentiles_of_the_delay() -> None:
    rows = [(change(n, 0), n / 10) for n in range(100)]
    found = last(count(Windows(), *rows))
    assert found["change_delay|default|p50", 0] == (100, 5.0)
    assert found["change_delay|default|p90", 0] == (100, 9.0)
    assert found["change_delay|default|p99", 0] == (100, 9.9)


def test_quantile_as_clickhouse_takes_it() -> None:
    assert [quantile([3, 1, 2], level) for level in (0.0, 0.5, 0.9, 1.0)] == [1, 2, 3, 3]
    assert quantile([7], 0.99) == 7


def test_order_does_not_matter_for_the_last_figure() -> None:
    rows = [(change(n, n * 7 % 200, ChangeKind.HOST_UP if n % 3 else ChangeKind.HOST_DOWN), 300.0 + n) for n in range(60)]
    straight, mixed = Windows(), Windows()
    expected = last(count(straight, *rows))
    random.Random(5).shuffle(rows)  # noqa: S311  repeatable, not secret
    found: dict[tuple[str, int], tuple[int, float]] = {}
    for row in rows:
        found |= last(count(mixed, row))
    assert found == expected


def test_what_is_recorded_an_hour_late_is_left_out() -> None:
    assert sample_of(change(1, 0), at(3659)) is not None
    assert sample_of(change(1, 0), at(3660)) is None
    assert late(at(0), at(3660))


def test_windows_are_forgotten_once_closed_and_told() -> None:
    windows = Windows()
    windows.add(*sample_of(change(1, 0), at(1)))  # type: ignore[misc]
    assert windows.close(at(10_000)) == []
    list(windows.news())
    assert windows.close(at(3659)) == []
    assert [sample.sample_id for _, sample in windows.close(at(3660))] == ["c1"]
    assert windows.open == {}
    assert windows.oldest() is None


def test_a_wrong_clock_far_ahead_closes_nothing() -> None:
    windows = Windows()
    count(windows, (change(1, 0), 1), (change(2, timedelta(days=400).total_seconds()), 2))
    assert windows.close(at(2)) == []
