"""The archiver on the real broker and the real engine: every event lands whole, once; bad records step aside."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv6Address
from typing import Any

import pytest
from confluent_kafka import Producer

from infra.core.settings import Settings
from infra.kafka.client import prefixed, producer_config, read_whole, value_of
from infra.kafka.deadletters import FuseBlown
from infra.kafka.timestamps import recorded_at
from schemas.codec import Codec
from schemas.events.observations import HostObservation
from schemas.examples import EXAMPLES
from schemas.ids import content_id
from schemas.rows import ROWS, rows_of
from tests.archiving import Archiver, archiver_settings, archiving, caught_up, dead_letters, header, publish, until
from tests.stores import RunningStore, running_store

pytestmark = [pytest.mark.kafka, pytest.mark.store]
KEPT = [(topic, event) for topic, event in EXAMPLES if type(event) in ROWS]
SEEN = next(event for _, event in EXAMPLES if isinstance(event, HostObservation))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with running_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(autouse=True)
def empty(store: RunningStore) -> None:
    """Every test finds the tables empty."""
    client = store.client(writer=True)
    for (name,) in client.query("SELECT name FROM system.tables WHERE database = 'driftline' AND engine LIKE '%MergeTree'").result_rows:
        if name != "schema_migrations":
            client.command(f"TRUNCATE TABLE {name}")


def rows(store: RunningStore, table: str, columns: str = "*") -> list[dict[str, Any]]:
    result = store.client().query(f"SELECT {columns} FROM {table} FINAL", column_formats={"facts": "string"})  # noqa: S608  our own names
    return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]


def seen(number: int, **changed: Any) -> HostObservation:
    """An observation unlike the others, with two services: two rows."""
    return SEEN.model_copy(update={"observation_id": content_id("test", str(number)), "address": f"198.18.7.{number}", **changed})


def expected(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """The rows that the published examples must have become."""
    codec, found = Codec(), dict[str, dict[str, dict[str, Any]]]()
    for topic in sorted({topic for topic, _ in KEPT}):

        def take(message: Any, topic: str = topic) -> None:
            for table, row in rows_of(codec.decode(topic, value_of(message) or b""), recorded_at(message)):
                found.setdefault(table, {})[repr({**row, "recorded_at": None})] = row  # a copy replaces: same row, later

        read_whole(settings, topic, take)
    return {table: list(distinct.values()) for table, distinct in found.items()}


def comparable(table: list[dict[str, Any]]) -> list[list[tuple[str, str]]]:
    return sorted(sorted((name, repr(_aware(value))) for name, value in row.items()) for row in table)


def _aware(value: Any) -> Any:
    """As rows have it: times with their zone, an IPv4 address in an IPv6 column as text of its own."""
    if isinstance(value, IPv6Address):
        return str(value.ipv4_mapped or value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def test_every_example_lands_with_every_column_and_a_copy_changes_nothing(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "land")
    with archiving(settings):
        for _ in range(2):
            publish(settings, *((topic, "k", event) for topic, event in KEPT))
            until(lambda: caught_up(settings), "the archiver to be through")
            wanted = expected(settings)
            assert wanted.keys() == {table for event in KEPT for table, _ in rows_of(event[1], datetime.now(UTC))}
            for table, want in wanted.items():
                assert comparable(rows(store, table)) == comparable(want), table
    assert {row["ip"] for row in rows(store, "assets", "toString(ip) AS ip")} == {"::ffff:198.18.1.3"}
    assert not any(dead_letters(settings, topic) for topic, _ in KEPT)


def test_undecodable_bytes_go_to_the_dlq_and_the_rest_goes_on(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "garbage")
    producer = Producer(producer_config(settings))
    for value in (b"\x00no schema has this id", b"", b"{}"):
        producer.produce(prefixed(settings, "probes"), value, b"k", 1)
    producer.produce(prefixed(settings, "probes"), Codec().encode("probes", seen(1)), b"k", 1)
    producer.flush()
    with archiving(settings):
        until(lambda: len(rows(store, "observations")) == 2, "the good record behind the bad ones")
        until(lambda: caught_up(settings), "the offsets")
    letters = dead_letters(settings, "probes")
    assert [value_of(one) for one in letters] == [b"\x00no schema has this id", b"", b"{}"]
    assert [header(one, "source.offset") for one in letters] == ["0", "1", "2"]
    assert header(letters[0], "source.topic") == "probes"
    assert header(letters[2], "error.class") == "UndecodableError"
    assert "wire format" in header(letters[2], "error.reason")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"address": "not-an-address"}, "address"),
        ({"address": "fe80::1%eth0"}, "interface"),
        ({"attempt": -1}, "attempt"),
        ({"attempt": 1 << 40}, "attempt"),
    ],
)
def test_a_row_that_clickhouse_refuses_goes_to_the_dlq_alone(
    kafka: str, store: RunningStore, changed: dict[str, Any], reason: str, request: pytest.FixtureRequest
) -> None:
    settings = archiver_settings(kafka, store, content_id("prefix", request.node.name))
    good = [("probes", f"k{number}", seen(number)) for number in range(40)]
    wanted = {f"198.18.7.{number}" for number in (*range(40), 100)}
    publish(settings, *good[:17], ("probes", "bad", seen(200, **changed)), *good[17:])
    with archiving(settings):
        until(lambda: caught_up(settings), "the archiver to get past the bad record")
        publish(settings, ("probes", "later", seen(100)))
        until(lambda: {row["address"] for row in rows(store, "observations")} == wanted, "what came later")
    assert len(rows(store, "observations")) == 2 * len(wanted)
    (letter,) = dead_letters(settings, "probes")
    assert Codec().decode("probes", value_of(letter) or b"") == seen(200, **changed)
    assert header(letter, "error.class") == "Poison"
    assert reason in header(letter, "error.reason")


def test_mostly_bad_records_blow_the_fuse(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "fuse")
    producer = Producer(producer_config(settings))
    for _ in range(80):
        producer.produce(prefixed(settings, "changes"), b"rubbish", b"k", 0)
    producer.flush()
    with pytest.raises(FuseBlown), archiving(settings) as archiver:
        until(lambda: archiver.error, "the fuse")
    assert len(dead_letters(settings, "changes")) == 80


def test_junk_in_a_table_of_which_no_row_is_made_stops_nothing(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "junk")
    producer = Producer(producer_config(settings))
    for _ in range(300):
        producer.produce(prefixed(settings, "grants"), b"rubbish", b"k", 0)
    producer.flush()
    with archiving(settings):
        until(lambda: len(dead_letters(settings, "grants")) == 300, "the letters")
        publish(settings, ("probes", "k", seen(1)))
        until(lambda: len(rows(store, "observations")) > 0, "a row after it")


def test_mostly_refused_rows_blow_the_fuse_too(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "fuse-rows")
    publish(settings, *(("probes", "k", seen(number, address="no-address")) for number in range(120)))

    def run() -> Archiver:
        with archiving(settings) as archiver:
            until(lambda: archiver.error, "the fuse")
        return archiver

    with pytest.raises(FuseBlown):
        run()
    assert 50 <= len(dead_letters(settings, "probes")) <= 120
    assert rows(store, "observations") == []
