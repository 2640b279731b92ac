"""Plain data is what the models hold: of any bytes, `Codec.read` takes what `Codec.decode` takes, says the same, and refuses the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import plain as plainly
from schemas.codec import Codec, UndecodableError
from schemas.events import assets, base, observations
from schemas.events.base import Event
from schemas.examples import EXAMPLES
from schemas.plain import Plain
from tests.sightings import START, observation, plain, service, sweep, tls

CODEC = Codec()
TOPICS = ("probes", "ticks", "assets", "changes")
MODELS = {
    "Range": base.PortRange,
    "Observation": observations.HostObservation,
    "Sweep": observations.SweepResult,
    "Tls": observations.TlsFacts,
    "Http": observations.HttpFacts,
    "Service": observations.ServiceObservation,
    "Asset": assets.AssetState,
    "Change": assets.AssetChange,
    **{name: getattr(observations, name) for name in ("HostPorts", "Impact", "Certificate", "Hop")},
    **{name: getattr(assets, name) for name in ("Vote", "ServiceState")},
}
IN_PART = {"Observation", "Sweep"}


@pytest.mark.parametrize("name", MODELS)
def test_fields_are_called_as_in_the_model(name: str) -> None:
    named, fields = set(getattr(plainly, name).__annotations__), set(MODELS[name].model_fields)
    assert named <= fields if name in IN_PART else named == fields


@pytest.mark.parametrize(("topic", "event"), [one for one in EXAMPLES if one[0] in TOPICS], ids=lambda one: str(one)[:20])
def test_examples_are_read_and_written_alike(topic: str, event: Event) -> None:
    value = CODEC.encode(topic, event)
    assert CODEC.read(topic, value) == Plain(type(event).__name__, plain(event))
    assert CODEC.encode(topic, Plain(type(event).__name__, plain(event))) == value


@given(st.sampled_from([one for one in EXAMPLES if one[0] in TOPICS]), st.data())
def test_bytes_that_were_changed_are_read_or_refused_alike(example: tuple[str, Event], data: st.DataObject) -> None:
    topic, event = example
    value = bytearray(CODEC.encode(topic, event))
    for place in data.draw(st.lists(st.integers(0, len(value) - 1), min_size=1, max_size=3)):
        value[place] = data.draw(st.integers(0, 255))
    assert outcome(lambda: CODEC.read(topic, bytes(value))) == outcome(lambda: as_plain(CODEC.decode(topic, bytes(value))))


def as_plain(event: Event) -> Plain:
    return Plain(type(event).__name__, plain(event))


def outcome(read: Callable[[], Plain]) -> str:
    """As text, since NaN is not equal to itself; the decoder's own exceptions in their kind alone."""
    try:
        return repr(read())
    except UndecodableError as error:
        return str(error).partition("Error: ")[0]


SEEN = observation("u", 1, service(443, tls=tls("aa")), path=("198.18.0.1",))
LATE = 7_258_118_400_000  # 2200


@pytest.mark.parametrize(
    ("event", "place", "bad", "good"),
    [
        (SEEN, ("observed_at",), LATE, LATE - 1),
        (SEEN, ("observed_at",), -1, 0),
        (SEEN, ("services", 0, "port"), 0, 1),
        (SEEN, ("services", 0, "port"), 65536, 65535),
        (SEEN, ("services", 0, "tls", "certificate", "not_after"), 253_402_300_800_000, 253_402_300_799_999),
        (SEEN, ("services", 0, "tls", "certificate", "not_before"), -62_135_596_800_001, -62_135_596_800_000),
        (SEEN, ("path", 0, "ttl"), 256, 255),
        (sweep("u", 1), ("recall",), 1.01, 1.0),
        (sweep("u", 1), ("recall",), float("nan"), 0.0),
        (sweep("u", 1, {"198.18.0.7": (22,)}), ("hosts", 0, "answered", 0), 0, 1),
        (sweep("u", 1), ("ports", 0, "last"), 65536, 65535),
    ],
)
def test_what_is_out_of_bounds_is_refused_in_the_models_words(event: Event, place: tuple[Any, ...], bad: float, good: float) -> None:
    fields = plain(event)
    inner = fields
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = good
    assert CODEC.read("probes", CODEC.encode("probes", Plain(type(event).__name__, fields))).fields == fields
    inner[place[-1]] = bad
    value = CODEC.encode("probes", Plain(type(event).__name__, fields))
    with pytest.raises(UndecodableError) as decoding:
        CODEC.decode("probes", value)
    with pytest.raises(UndecodableError) as reading:
        CODEC.read("probes", value)
    assert str(reading.value) == str(decoding.value)


def test_what_the_topic_does_not_hold_is_not_written() -> None:
    with pytest.raises(TypeError, match="does not hold"):
        CODEC.encode("probes", Plain("Tick", {"partition": 0, "minute": plain(START)}))
