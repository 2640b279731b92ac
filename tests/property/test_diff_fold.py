"""Properties of the differ that hold for any log."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.core.settings import DifferSettings
from schemas.events.assets import ChangeKind, ServiceStatus
from schemas.events.base import Event
from schemas.events.observations import SweepResult
from tests.golden.recorded_log import recorded_log
from tests.sightings import HOST, START, Bench, kinds, observation, service, sweep

HOSTS = ("198.18.0.7", "198.18.0.8")
PORTS = (22, 80)
Script = list[tuple[int, int, tuple[str, ...]]]

outcomes = st.sampled_from(["open", "open", "new", "closed", "silent", "silent", "unreachable", "not_probed"])
scripts: st.SearchStrategy[Script] = st.lists(
    st.tuples(st.sampled_from(range(len(HOSTS))), st.sampled_from([1, 9, 10, 60, 4000, 40_000]), st.tuples(outcomes, outcomes)),
    max_size=25,
)


def log_of(script: Script) -> list[tuple[str, tuple[Event, ...]]]:
    """Units in the order of their times: the host that each looked at, and its records."""
    found, now = [], 100
    for number, (which, gap, states) in enumerate(script):
        now += gap
        host, unit = HOSTS[which], f"u{number}"
        ports = {state: [port for port, one in zip(PORTS, states, strict=True) if one == state] for state in set(states)}
        answered = [*ports.get("open", []), *ports.get("new", [])]
        closed, unreachable, not_probed = (
            {host: ",".join(map(str, ports[state]))} if state in ports else {} for state in ("closed", "unreachable", "not_probed")
        )
        records: list[Event] = [
            sweep(
                unit,
                now,
                {host: answered} if answered else {},
                probed=(host,),
                closed=closed,
                unreachable=unreachable,
                not_probed=not_probed,
            )
        ]
        if answered:
            seen = [service(port, product="b" if port in ports.get("new", []) else "a") for port in answered]
            records.append(observation(unit, now + 0.5, *seen, address=host))
        found.append((host, tuple(records)))
    return found


def run(units: list[tuple[str, tuple[Event, ...]]]) -> Bench:
    bench = Bench()
    for _, records in units:
        bench.feed(*records)
    return bench


@given(scripts)
def test_replaying_any_part_again_changes_nothing(script: Script) -> None:
    units = log_of(script)
    bench = run(units)
    state = dict(bench.state.values)
    for _, records in units:
        assert bench.feed(*records) == []
    assert bench.state.values == state


@given(scripts, st.integers(0, 60))
def test_reading_all_again_after_a_crash_anywhere_tells_the_same(script: Script, crash: int) -> None:
    """As Faust does: the state is kept, the offsets are not."""
    events = [event for _, records in log_of(script) for event in records]
    once, again = Bench(), Bench()
    once.feed(*events)
    again.feed(*events[:crash])
    again.feed(*events)
    assert again.state.values == once.state.values
    assert again.changes == once.changes


@pytest.mark.parametrize("seed", range(3))
def test_reading_a_long_log_again_after_a_crash_tells_the_same(seed: int) -> None:
    events = [event for unit in recorded_log(seed, subnets=1, rounds=20) for event in unit.events if not unit.aborted]
    once = Bench()
    once.feed(*events)
    for crash in range(seed, len(events), 9):
        again = Bench()
        again.feed(*events[:crash])
        again.feed(*events)
        assert again.changes == once.changes
        assert again.state.values == once.state.values


@given(scripts)
def test_each_record_handled_twice_in_a_row_is_handled_once(script: Script) -> None:
    once, twice = run(log_of(script)), Bench()
    for _, records in log_of(script):
        twice.feed(*(copy for record in records for copy in (record, record)))
    assert twice.state.values == once.state.values
    assert twice.changes == once.changes


HOUR = 3600
SLOW = [HOUR // 2, 5 * HOUR, 25 * HOUR, 40 * HOUR]
slow_scripts: st.SearchStrategy[Script] = st.lists(
    st.tuples(st.just(0), st.sampled_from(SLOW), st.tuples(outcomes, outcomes)), min_size=2, max_size=20
)


@given(slow_scripts, st.data())
def test_ticks_between_the_records_change_nothing_but_when_it_is_told(script: Script, data: st.DataObject) -> None:
    """A tick tells what was due an hour before it. As long as no record from before then is still to come, its place does not matter."""
    units = log_of(script)
    without, ticked = Bench(), Bench()
    for _, records in units:
        assert isinstance(records[0], SweepResult)
        hours = int((records[0].finished_at - START).total_seconds() // HOUR)
        for hour in sorted(data.draw(st.lists(st.integers(0, hours), max_size=4))):
            ticked.tick((hour + 1) * HOUR)
        without.feed(*records)
        ticked.feed(*records)
    for bench in (without, ticked):
        bench.tick(1000 * HOUR)
    assert ticked.state.values == without.state.values
    assert [(one.change_id, one.before, one.after) for one in ticked.changes] == [
        (one.change_id, one.before, one.after) for one in without.changes
    ]


@pytest.mark.parametrize("tick_first", [False, True])
def test_a_host_that_answers_right_after_it_was_due_to_be_down_was_down(tick_first: bool) -> None:
    bench = Bench()
    bench.feed(sweep("u1", 0, {HOST: [80]}), observation("u1", 1, service(80)), sweep("u2", 40 * HOUR))
    if tick_first:
        bench.tick(74 * HOUR)
    bench.feed(sweep("u3", 73.5 * HOUR, {HOST: [80]}), observation("u3", 73.5 * HOUR + 1, service(80)))
    if not tick_first:
        bench.tick(74 * HOUR)
    assert kinds(bench.changes) == ["host_up", "service_opened:80", "service_closed:80", "host_down", "host_up", "service_opened:80"]


@given(scripts)
def test_the_order_between_hosts_does_not_matter(script: Script) -> None:
    units = log_of(script)
    mixed, sorted_by_host = run(units), run(sorted(units, key=lambda unit: unit[0]))
    assert mixed.state.values == sorted_by_host.state.values
    for host in HOSTS:
        assert [one for one in mixed.changes if one.address == host] == [one for one in sorted_by_host.changes if one.address == host]


@given(scripts)
def test_state_equals_the_fold_of_what_was_told(script: Script) -> None:
    bench = run(log_of(script))
    for host in {host for host, _ in log_of(script)}:
        told = [one for one in bench.changes if one.address == host]
        assert [one.revision for one in told] == list(range(1, len(told) + 1))
        assert len({one.change_id for one in told}) == len(told)
        if not told:
            continue
        asset = bench.asset(host)
        assert asset.revision == len(told)
        for state in asset.services:
            last = [one for one in told if one.port == state.port and one.kind is not ChangeKind.CERTIFICATE_CHANGED][-1]
            if not state.flapping:
                assert (last.kind is ChangeKind.SERVICE_CLOSED) == (state.status is ServiceStatus.CLOSED)
            if state.status is not ServiceStatus.CLOSED:
                assert last.after == state.seen
        ups = [one.kind is ChangeKind.HOST_UP for one in told if one.port == 0]
        assert ups == [n % 2 == 0 for n in range(len(ups))]
        assert ups[-1] == asset.up


@given(scripts)
def test_a_service_is_closed_only_by_enough_votes(script: Script) -> None:
    """Count the votes anew, straight from the log, with the rule as DESIGN.md says it."""
    units, limits = log_of(script), DifferSettings()
    for change in run(units).changes:
        if change.kind is not ChangeKind.SERVICE_CLOSED:
            continue
        votes = [
            (records[0].finished_at, records[0].hosts)  # type: ignore[attr-defined]
            for host, records in units
            if host == change.address and records[0].unit_id in change.evidence_ids  # type: ignore[attr-defined]
        ]
        refused = [any(span.first == change.port for one in hosts for span in one.closed) for _, hosts in votes]
        assert sum(refused) >= limits.closed_votes or len(refused) - sum(refused) >= limits.silent_votes
        gaps = [later[0] - sooner[0] for sooner, later in itertools.pairwise(votes)]
        assert all(gap >= timedelta(seconds=limits.spacing_seconds) for gap in gaps)


@given(scripts)
def test_looks_that_say_nothing_change_nothing(script: Script) -> None:
    said = [(host, gap, tuple("open" if one in ("closed", "silent") else one for one in states)) for host, gap, states in script]
    changes = run(log_of(said)).changes
    assert not [one for one in changes if one.kind in (ChangeKind.SERVICE_CLOSED, ChangeKind.HOST_DOWN, ChangeKind.SERVICE_FLAPPING)]


@settings(max_examples=50)
@given(st.lists(st.sampled_from([10, 30, 60, 200]), min_size=10, max_size=120))
def test_flapping_tells_at_most_four_times_a_day_and_state_stays_small(gaps: list[int]) -> None:
    script: Script = []
    for number, gap in enumerate(gaps):
        state = "open" if number % 3 == 0 else "closed"
        script.append((0, gap, (state, "open")))
    bench = run(log_of(script))
    told = [one for one in bench.changes if one.port == PORTS[0]]
    assert len(told) <= DifferSettings().flap_transitions
    kept = bench.service(PORTS[0])
    assert len(kept.transitions) <= DifferSettings().flap_transitions
    assert len(kept.votes) <= DifferSettings().closed_votes + DifferSettings().silent_votes
