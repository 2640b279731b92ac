"""What passes by at a glance is what the fold would have left as it is: every log tells the same with and without."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.diff.glancing import glance
from schemas.codec import Codec, UndecodableError
from schemas.events.base import Event
from schemas.events.observations import HostObservation
from schemas.ids import asset_key
from tests.golden.recorded_log import recorded_log
from tests.property.test_diff_fold import SLOW, Script, log_of, outcomes, scripts
from tests.sightings import START, Bench, observation, service, tls

CODEC = Codec()
HEADER = CODEC.header("probes")
mixed: st.SearchStrategy[Script] = st.lists(
    st.tuples(st.just(0), st.sampled_from([10, 60, 1000, *SLOW]), st.tuples(outcomes, st.sampled_from(["open", "open", "silent"]))),
    max_size=25,
)


def both(events: list[Event]) -> tuple[Bench, Bench]:
    glancing, folding = Bench(), Bench(glancing=False)
    for bench in (glancing, folding):
        bench.feed(*events)
    return glancing, folding


def same(events: list[Event]) -> None:
    glancing, folding = both(events)
    assert glancing.state.values == folding.state.values
    assert glancing.emitted == folding.emitted


@given(scripts | mixed)
def test_a_glance_changes_no_outcome(script: Script) -> None:
    same([event for _, records in log_of(script) for event in records])


@given(scripts, st.randoms(use_true_random=False))
def test_nor_does_it_where_records_come_out_of_order_or_twice(script: Script, dice: object) -> None:
    events = [event for _, records in log_of(script) for event in records]
    shuffled = [*events, *events]
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    same(shuffled)


@pytest.mark.parametrize("seed", range(3))
def test_nor_in_a_long_log(seed: int) -> None:
    same([event for unit in recorded_log(seed, subnets=1, rounds=60) for event in unit.events])


def test_four_of_five_pass_by_where_little_happens() -> None:
    """The negative control of the above: were nothing to pass by, they would prove nothing."""
    bench = Bench()
    for number in range(50):
        bench.feed(observation(f"u{number}", 60 * number, service(22, product="a"), service(443, product="b", tls=tls("aa"))))
    assert bench.passed_by == 49


def test_a_state_that_was_taken_back_is_not_passed_by() -> None:
    """A transaction that was aborted: the same record comes again, and finds the state from before it."""
    bench = Bench()
    bench.feed(observation("u1", 10, service(22, product="a")))
    before = dict(bench.state.values)
    told = bench.feed(observation("u2", 20, service(22, product="b")))
    bench.state.values = before
    assert bench.feed(observation("u2", 20, service(22, product="b"))) == told != []


@given(st.data())
def test_whatever_is_glanced_at_decodes_to_the_same(data: st.DataObject) -> None:
    """Bytes that a hostile or broken writer changed: what a glance takes for a sighting must be one, with that key and time."""
    unit, count = data.draw(st.text("ab|", min_size=1, max_size=70)), data.draw(st.integers(0, 3))
    seen = observation(unit, data.draw(st.floats(0, 1e8)), *(service(port + 1, product="p") for port in range(count)))
    value = bytearray(CODEC.encode("probes", seen))
    for place in data.draw(st.lists(st.integers(0, len(value) - 1), max_size=2)):
        value[place] = data.draw(st.integers(0, 255))
    found = glance(bytes(value), HEADER)
    whole = glance(CODEC.encode("probes", seen), HEADER)
    if len(unit) < 64:
        assert whole is not None
    if found is None or whole is None or found.sighting != whole.sighting:
        return
    if not START <= START + timedelta(milliseconds=found.at - int(START.timestamp() * 1000)) < START + timedelta(days=3000):
        return  # outside the time in which any sighting settles
    try:
        event = CODEC.decode("probes", bytes(value))
    except UndecodableError as error:
        raise AssertionError(f"a glance took {bytes(value)!r} for a sighting: {error}") from None
    assert isinstance(event, HostObservation)
    assert (asset_key(event.zone, event.address), round(event.observed_at.timestamp() * 1000)) == found[:2]
    assert (event.services, event.names, event.path, event.subnet) == (seen.services, seen.names, seen.path, seen.subnet)
