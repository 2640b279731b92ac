"""The fast way into ClickHouse makes the rows of `schemas.rows`, or says that it is not sure; it never makes other rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumers.archive.blocks import Columns, Unsure
from schemas.codec import HEADER, Codec, UndecodableError
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.base import Event, Transport
from schemas.events.observations import Certificate, Hop, HostObservation, HttpFacts, ServiceObservation, TlsFacts
from schemas.examples import EXAMPLES
from schemas.rows import rows_of

CODEC = Codec()
COLUMNS = Columns(CODEC)
APPENDED = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
MILLISECONDS = round(APPENDED.timestamp() * 1000)

words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=70)
lists = st.lists(words, max_size=3).map(tuple)
facts = st.dictionaries(words, words, max_size=3)
ports = st.integers(1, 65535)
moments = st.integers(0, 4_000_000_000_000).map(lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms))
addresses = st.ip_addresses().map(str).filter(lambda text: "%" not in text)
certificates = st.builds(
    Certificate, sha256=words, subject=words, issuer=words, names=lists, not_before=moments, not_after=moments, key_type=words,
    key_bits=st.integers(-(2**62), 2**62), self_signed=st.booleans(),
)  # fmt: skip
services = st.builds(
    ServiceObservation, port=ports, transport=st.sampled_from(Transport), service=words, product=words, version=words, cpes=lists,
    banner=words, tls=st.none() | st.builds(TlsFacts, version=words, outdated=lists, certificate=st.none() | certificates),
    http=st.none() | st.builds(HttpFacts, status=st.integers(0, 65535), title=words, headers=facts), facts=facts, evidence=lists,
)  # fmt: skip
hops = st.builds(Hop, ttl=st.integers(1, 255), address=words, rtt_ms=st.none() | st.floats(0, 1e6))
hosts = st.builds(
    HostObservation, observation_id=words, unit_id=words, run_id=words, campaign_id=st.none() | words, zone=words, subnet=words,
    address=addresses, grant_id=words, agent_id=words, attempt=st.integers(0, 2**32 - 1), names=lists,
    services=st.lists(services, max_size=3).map(tuple), path=st.none() | st.lists(hops, max_size=2).map(tuple), fingerprints=words,
    observed_at=moments,
)  # fmt: skip
changes = st.builds(
    AssetChange, change_id=words, kind=st.sampled_from(ChangeKind), zone=words, address=addresses, subnet=words,
    revision=st.integers(0, 2**62), port=st.integers(0, 65535), transport=st.sampled_from(Transport), before=st.none() | services,
    after=st.none() | services, names=lists, summary=words, evidence_ids=lists, observed_at=moments,
)  # fmt: skip
SEEN = next(event for _, event in EXAMPLES if isinstance(event, HostObservation))
CHANGED = next(event for _, event in EXAMPLES if isinstance(event, AssetChange))


def by_rows(events: list[Event]) -> list[dict[str, Any]]:
    """What the row function says."""
    return [{name: _plain(value) for name, value in row.items()} for event in events for _, row in rows_of(event, APPENDED)]


def by_columns(topic: str, values: list[bytes]) -> list[dict[str, Any]]:
    _, table = COLUMNS.table(topic, values, [MILLISECONDS] * len(values))
    return [
        {name: _plain(dict(value) if name == "facts" else value) for name, value in row.items()}
        for row in table.to_pylist(maps_as_pydicts=None)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    return list(value) if isinstance(value, tuple) else value


@given(st.lists(hosts, max_size=4))
def test_host_observations_become_the_rows_of_the_row_function(events: list[HostObservation]) -> None:
    values = [CODEC.encode("probes", event) for event in events]
    assert all(COLUMNS.takes("probes", value) for value in values)
    assert by_columns("probes", values) == by_rows([*events])


@given(st.lists(changes, max_size=4))
def test_changes_become_the_rows_of_the_row_function(events: list[AssetChange]) -> None:
    assert by_columns("changes", [CODEC.encode("changes", event) for event in events]) == by_rows([*events])


@given(st.sampled_from(["probes", "changes"]), st.data())
def test_whatever_happens_to_the_bytes_no_row_is_made_that_the_slow_way_would_not_make(topic: str, data: st.DataObject) -> None:
    """The negative control: bytes changed, cut, put in. Either both ways make the same rows, or the fast way is not sure."""
    value = bytearray(CODEC.encode(topic, SEEN if topic == "probes" else CHANGED))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(HEADER.size + 1, len(value) - 1))
        cut, put = data.draw(st.integers(0, 2)), data.draw(st.binary(max_size=2))
        value[place : place + cut] = put
    _agree(topic, bytes(value))


@given(st.binary(max_size=300), st.sampled_from(["probes", "changes"]))
@example(b"\xff" * 40, "probes")
@example(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" * 4, "changes")
def test_hostile_bytes_are_left_to_the_slow_way(rubbish: bytes, topic: str) -> None:
    start = CODEC.encode(topic, SEEN if topic == "probes" else CHANGED)[: HEADER.size + (topic == "probes")]
    _agree(topic, start + rubbish)


def _agree(topic: str, value: bytes) -> None:
    try:
        found = by_columns(topic, [value])
    except Unsure:
        return
    try:
        assert found == by_rows([CODEC.decode(topic, value)])
    except UndecodableError as error:
        raise AssertionError(f"made rows of what can't be decoded: {error}") from None


@pytest.mark.parametrize(
    "event",
    [
        SEEN.model_copy(update={"address": "no-address"}),
        SEEN.model_copy(update={"address": "fe80::1%eth0"}),
        SEEN.model_copy(update={"attempt": -1}),
        SEEN.model_copy(update={"attempt": 1 << 40}),
        SEEN.model_copy(update={"services": (SEEN.services[0].model_copy(update={"port": 70_000}),)}),
        CHANGED.model_copy(update={"revision": -1}),
        CHANGED.model_copy(update={"observed_at": datetime(2300, 1, 1, tzinfo=UTC)}),
    ],
)
def test_what_is_out_of_range_goes_the_slow_way(event: Event) -> None:
    topic = "probes" if isinstance(event, HostObservation) else "changes"
    with pytest.raises(Unsure):
        by_columns(topic, [CODEC.encode(topic, event)])


def test_bytes_that_are_left_over_go_the_slow_way() -> None:
    with pytest.raises(Unsure):
        by_columns("probes", [CODEC.encode("probes", SEEN) + b"\0"])


def test_sweeps_other_schemas_and_other_topics_go_the_slow_way() -> None:
    assert not COLUMNS.takes("probes", HEADER.pack(0, 7) + b"\x02")
    assert not COLUMNS.takes("assets", CODEC.encode("probes", SEEN))
    assert not any(COLUMNS.takes("probes", CODEC.encode("probes", one)) for topic, one in EXAMPLES if topic == "probes" and one != SEEN)
