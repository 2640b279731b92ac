"""The differ: silence is not absence (DESIGN.md 4.4), flapping, hosts that go down."""

from __future__ import annotations

from collections import Counter

import pytest

from infra.core.errors import Poison
from infra.core.settings import DifferSettings
from processors.diff.differ import turn_of
from schemas.events.assets import AssetChange, ServiceStatus
from schemas.events.observations import SweepResult
from schemas.events.operations import Tick
from schemas.events.targets import Cause
from tests.sightings import HOST, Bench, at, kinds, observation, service, sweep

HOUR = 3600


def known(*ports: int) -> Bench:
    """A differ that knows one host with these services since second 11."""
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: ports}), observation("u1", 11, *(service(port, product=f"p{port}") for port in ports)))
    bench.emitted.clear()
    return bench


def refused(unit: str, seconds: float) -> SweepResult:
    return sweep(unit, seconds, closed={HOST: "1-1000"})


def test_two_closed_votes_close_a_service() -> None:
    bench = known(22)
    assert bench.feed(refused("u2", 30)) == []
    assert bench.service(22).status is ServiceStatus.SUSPECTED
    changes = bench.feed(refused("u3", 40))
    assert kinds(changes) == ["service_closed:22"]
    assert changes[0].before == service(22, product="p22")
    assert changes[0].evidence_ids == ("u2", "u3")
    assert bench.asset().up  # a host that refuses is there


def test_three_silent_votes_close_a_service_and_the_host_is_down() -> None:
    bench = known(22)
    assert bench.feed(sweep("u2", 30), sweep("u3", 40)) == []
    assert kinds(bench.feed(sweep("u4", 50))) == ["service_closed:22", "host_down"]
    assert not bench.asset().up


def test_the_host_stays_up_while_another_service_is_open() -> None:
    bench = known(22, 80)
    bench.feed(*(sweep(f"u{n}", 20 + 10 * n, {HOST: [80]}) for n in (2, 3, 4)))
    assert kinds(bench.changes) == ["service_closed:22"]


def test_each_vote_that_is_not_enough_asks_for_another_look() -> None:
    bench = known(22, 80)
    bench.feed(sweep("u2", 30), sweep("u3", 41), sweep("u4", 52))
    assert [(one.ports, one.not_before) for one in bench.requests] == [("22,80", at(40)), ("22,80", at(51))]
    first = bench.requests[0]
    assert (first.targets, first.cause, first.grant_id) == ((HOST,), Cause.CONFIRMATION, "grant")
    assert len({one.request_id for one in bench.requests}) == 2
    again = known(22, 80)
    again.feed(sweep("u2", 30))
    assert again.requests[0].request_id == first.request_id


def test_an_answer_clears_suspicion_without_a_word() -> None:
    bench = known(22)
    assert bench.feed(sweep("u2", 30), sweep("u3", 40), sweep("u4", 50, {HOST: [22]})) == []
    assert bench.service(22).status is ServiceStatus.OPEN
    assert bench.service(22).votes == ()
    assert bench.feed(sweep("u5", 60), sweep("u6", 70)) == []


@pytest.mark.parametrize(
    "useless",
    [
        refused("u2", 45),
        refused("u3", 35),
        sweep("u3", 45, recall=0.89),
        sweep("u3", 45, unreachable={HOST: "22"}),
        sweep("u3", 45, not_probed={HOST: "22"}),
        sweep("u3", 45, ports="80-90"),
        sweep("u3", 45, probed=("198.18.0.8",)),
        refused("u3", 5),
    ],
    ids=["same unit", "too soon", "low recall", "unreachable", "not probed", "other ports", "other host", "older"],
)
def test_what_has_no_vote(useless: SweepResult) -> None:
    bench = known(22)
    bench.feed(refused("u2", 30))
    before = bench.asset()
    assert bench.feed(useless, useless) == []
    assert bench.asset() == before


def test_one_closed_and_two_silent_are_not_enough() -> None:
    bench = known(22)
    assert bench.feed(refused("u2", 30), sweep("u3", 40), sweep("u4", 50)) == []
    assert kinds(bench.feed(refused("u5", 60))) == ["service_closed:22"]


def test_a_service_that_comes_back_is_told_as_opened() -> None:
    bench = known(22)
    bench.feed(sweep("u2", 30), sweep("u3", 40), sweep("u4", 50))
    changes = bench.feed(sweep("u5", 60, {HOST: [22]}), observation("u5", 61, service(22, product="new")))
    assert kinds(changes) == ["host_up", "service_opened:22"]
    assert changes[1].after == service(22, product="new")
    assert bench.service(22).first_seen == at(10)


def test_an_old_unit_reopens_nothing() -> None:
    bench = known(22)
    bench.feed(sweep("u2", 30), sweep("u3", 40), sweep("u4", 50))
    before = dict(bench.state.values)
    assert bench.feed(sweep("u1", 10, {HOST: [22]}), observation("u1", 11, service(22, product="p22")), sweep("u4", 50)) == []
    assert bench.state.values == before


def flap(bench: Bench, rounds: int, first: int = 100) -> list[AssetChange]:
    """Open and close port 22 in turn, beginning with a close; the host itself answers all the while."""
    told: list[AssetChange] = []
    for n in range(rounds):
        start = first + n * 100
        if n % 2 == 0:
            told += bench.feed(refused(f"f{start}a", start), refused(f"f{start}b", start + 20))
        else:
            told += bench.feed(sweep(f"f{start}", start, {HOST: [22]}), observation(f"f{start}", start + 1, service(22)))
    return told


def test_flapping_is_told_once_and_then_nothing_until_it_is_steady() -> None:
    bench = known(22)
    assert kinds(flap(bench, 21)) == ["service_closed:22", "service_opened:22", "service_flapping:22"]
    assert len(bench.service(22).transitions) == 4
    assert bench.tick(23 * HOUR) == []
    settled = bench.tick(27 * HOUR)
    assert kinds(settled) == ["service_closed:22"]
    assert settled[0].observed_at == at(100 + 20 * 100 + 20 + 24 * HOUR)
    assert bench.tick(28 * HOUR) == []
    assert not bench.service(22).flapping


def test_a_look_after_a_day_ends_flapping_too() -> None:
    bench = known(22)
    flap(bench, 22)
    settled = bench.feed(sweep("late", 26 * HOUR, {HOST: [22]}), observation("late", 26 * HOUR + 1, service(22)))
    assert kinds(settled) == ["service_opened:22"]
    assert not bench.service(22).flapping


def test_slow_changes_are_no_flapping() -> None:
    bench = known(22)
    told = []
    for n in range(8):
        told += flap(bench, 1, 9 * HOUR * (2 * n + 1))
        start = 9 * HOUR * (2 * n + 2)
        told += bench.feed(sweep(f"o{n}", start, {HOST: [22]}), observation(f"o{n}", start + 1, service(22)))
    assert kinds(told) == ["service_closed:22", "service_opened:22"] * 8


def test_a_host_that_is_looked_at_yet_not_seen_for_long_is_down() -> None:
    bench = known(22)
    bench.feed(*(sweep(f"low{n}", n * 6 * HOUR, recall=0.5) for n in range(1, 6)))
    assert bench.tick(72 * HOUR) == []
    changes = bench.tick(74 * HOUR)
    assert kinds(changes) == ["service_closed:22", "host_down"]
    assert changes[0].observed_at == at(10 + 72 * HOUR) or changes[0].observed_at == at(11 + 72 * HOUR)
    assert bench.tick(75 * HOUR) == []


def test_a_host_that_nobody_looks_at_is_not_called_down() -> None:
    bench = known(22)
    bench.feed(sweep("other", 6 * HOUR, ports="80"), sweep("far", 7 * HOUR, unreachable={HOST: "1-1000"}))
    assert bench.tick(200 * HOUR) == []


def test_an_asset_has_one_turn_an_hour_and_is_judged_as_of_the_hours_beginning() -> None:
    bench = known(22)
    flap(bench, 21)
    (key,) = (one for one in bench.state.values if one.endswith(HOST))
    turn, ticks = turn_of(key), [Tick(partition=0, minute=at(31 * HOUR + 60 * minute)) for minute in range(60)]
    assert bench.feed(*ticks[:turn], *ticks[turn + 1 :]) == []
    assert kinds(bench.feed(ticks[turn])) == ["service_closed:22"]


def test_turns_are_even() -> None:
    shares = Counter(turn_of(f"default|198.18.{number // 256}.{number % 256}") for number in range(60_000))
    assert set(shares) == set(range(60))
    assert max(shares.values()) < 1.2 * 1000


def test_the_numbers_are_settings() -> None:
    bench = Bench(DifferSettings(closed_votes=1, silent_votes=1, spacing_seconds=0))
    bench.feed(sweep("u1", 10, {HOST: [22]}), observation("u1", 11, service(22)))
    assert kinds(bench.feed(sweep("u2", 30))) == ["service_closed:22", "host_down"]


@pytest.mark.parametrize("subnet", ["198.18.0.0/16", "198.18.1.0/25"])
def test_a_look_at_what_is_no_subnet_is_bad(subnet: str) -> None:
    with pytest.raises(Poison, match="is no subnet"):
        Bench().feed(sweep("u1", 10, {HOST: (22,)}).model_copy(update={"subnet": subnet}))
