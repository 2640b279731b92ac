"""When silence of a host that answered is an impact: pure decisions over asks."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.impact import EVERY_SECONDS, LEAST_SILENCES, Vigil, needed_silences, reason_of
from schemas.events.assets import ChangeKind
from schemas.events.observations import Impact
from tests.correlating import START, told
from tests.correlating import Bench as Correlating
from tests.sightings import HOST, Bench, kinds, observation, service, sweep
from tests.unit.test_correlating import REDIS


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  chance for a test


def play(vigil: Vigil, seconds: float, answers: bool | float, rng: random.Random, start: float = 0.0) -> float:
    """Ask what is due ten times a second; hosts answer, or not, or with this probability. The moment of the first suspect, or infinity."""
    for step in range(int(seconds * 10)):
        now = start + step / 10
        for address, _ in vigil.due(now, 1000, {}):
            vigil.note(address, rng.random() < answers)
        if vigil.suspects():
            return now
    return float("inf")


def test_a_host_that_falls_silent_is_suspected_within_seconds_and_not_before_four_asks() -> None:
    vigil = Vigil()
    vigil.watch("198.18.0.7", 80, 0.0)
    assert play(vigil, 60, True, dice(1)) == float("inf")
    assert 5.0 <= play(vigil, 60, False, dice(1), 60.0) - 60.0 <= 11.0
    (suspect,) = vigil.suspects()
    assert (suspect.address, suspect.port, suspect.silences) == ("198.18.0.7", 80, LEAST_SILENCES)
    assert reason_of(vigil.suspects()).startswith("suspected_impact: 198.18.0.7 stopped answering on tcp/80 while it was probed")


def test_all_hosts_silent_at_once_are_suspected_too() -> None:
    vigil = Vigil()
    for number in range(20):
        vigil.watch(f"198.18.0.{number}", 80, 0.0)
    assert play(vigil, 60, False, dice(1)) < 12.0
    assert "and 19 more" in reason_of(vigil.suspects())


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.2, 0.36])
def test_loss_that_a_sweep_has_seen_is_no_impact(loss: float) -> None:
    rng, false = dice(7), 0
    for _ in range(20):
        vigil = Vigil()
        vigil.expect(loss)
        for number in range(50):
            vigil.watch(f"198.18.0.{number}", 80, 0.0)
        false += play(vigil, 60, 1 - loss, rng) < float("inf")
    assert false <= 1


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_loss_never_needs_fewer_silences(one: float, other: float) -> None:
    low, high = sorted((needed_silences(one), needed_silences(other)))
    assert (needed_silences(min(one, other)), needed_silences(max(one, other))) == (low, high)
    assert low >= LEAST_SILENCES


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), max_size=40), st.integers(1, 5))
def test_no_host_that_answers_is_asked_more_often_than_every_five_seconds_and_no_more_than_allowed_at_once(
    found: list[tuple[int, int]], most: int
) -> None:
    vigil, asked = Vigil(), dict[str, float]()
    for number, port in found:
        vigil.watch(f"198.18.0.{number}", port, 0.0)
    for step in range(200):
        now = step / 4
        due = vigil.due(now, most, {})
        assert len(due) <= most
        for address, port in due:
            assert now - asked.get(address, 0.0) >= EVERY_SECONDS
            assert port == next(port for number, port in found if address.endswith(f".{number}"))
            asked[address] = now
            vigil.note(address, True)


def test_the_silent_come_first_then_who_got_the_most() -> None:
    vigil = Vigil()
    for number in (1, 2, 3):
        vigil.watch(f"h{number}", 80, 0.0)
    assert vigil.due(5.0, 1, {"h2": 9})[0][0] == "h2"
    vigil.note("h2", False)
    assert [address for address, _ in vigil.due(6.0, 3, {"h2": 9, "h3": 4})] == ["h2", "h3", "h1"]


def test_at_the_end_some_are_asked_once_more_and_the_silent_until_it_is_clear() -> None:
    vigil = Vigil()
    for number in range(5):
        vigil.watch(f"h{number}", 80, 0.0)
    vigil.end(2, {"h1": 5, "h3": 7})
    assert sorted(address for address, _ in vigil.due(0.1, 9, {})) == ["h1", "h3"]
    vigil.note("h1", True)
    vigil.note("h3", False)
    assert vigil.watching()
    assert play(vigil, 20, False, dice(1), 0.2) < 10.0


def test_the_differ_tells_an_impact_once() -> None:
    bench = Bench()
    first = sweep("u1", 0, {HOST: [22, 80]}).model_copy(
        update={"complete": False, "stopped_reason": "suspected_impact: …", "impact": (Impact(address=HOST, port=80),)}
    )
    assert kinds(bench.feed(first)) == ["suspected_impact:80"]
    assert bench.feed(first) == []
    assert bench.changes[0].evidence_ids == ("u1",)
    assert kinds(bench.feed(observation("u2", 20, service(22)))) != []


def test_a_finding_stands_for_seven_days_though_the_service_is_gone() -> None:
    bench = Correlating()
    bench.change(ChangeKind.SERVICE_OPENED, REDIS)
    assert told(bench.change(ChangeKind.SUSPECTED_IMPACT, None, 60, port=6379)) == {("suspected-impact", "opened")}
    gone = told(bench.change(ChangeKind.SERVICE_CLOSED, REDIS, 120))
    assert ("suspected-impact", "resolved") not in gone
    assert ("redis-without-password", "resolved") in gone
    assert told(bench.tick(START + timedelta(days=6))) == set()
    assert told(bench.tick(START + timedelta(days=8))) == {("suspected-impact", "resolved")}


def test_an_impact_on_what_was_never_told_is_a_finding_and_nothing_else() -> None:
    bench = Correlating()
    assert told(bench.change(ChangeKind.SUSPECTED_IMPACT, None, port=23)) == {("suspected-impact", "opened")}
    assert told(bench.change(ChangeKind.HOST_DOWN, None, 60)) == set()
