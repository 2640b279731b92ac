"""`watermarks` never says that more is complete than what can be read, and moves on while nothing comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from consumers.archive import pump
from infra.core.settings import Settings
from infra.kafka.client import prefixed, read_whole, transactional_producer
from infra.kafka.timestamps import recorded_at
from schemas.codec import Codec
from tests.archiving import PARTITIONS, archiver_settings, archiving, publish, until
from tests.integration.test_archiver_faults import change, numbers
from tests.stores import RunningStore, running_store

pytestmark = [pytest.mark.kafka, pytest.mark.store]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with running_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(autouse=True)
def often(store: RunningStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the ends of partitions every 0.3 s; start with empty tables."""
    monkeypatch.setattr(pump, "COMPARE_SECONDS", 0.3)
    monkeypatch.setattr(pump, "UPKEEP_SECONDS", 0.2)
    for table in ("changes", "watermark_parts"):
        store.client(writer=True).command(f"TRUNCATE TABLE {table}")


def complete_to(store: RunningStore, topic: str) -> datetime:
    """What the view says; long ago where it says nothing."""
    found = store.client().query("SELECT complete_to FROM watermarks WHERE topic = {topic:String}", parameters={"topic": topic}).result_rows
    return found[0][0].replace(tzinfo=UTC) if found else EPOCH


def append_times(settings: Settings) -> list[datetime]:
    """When Kafka took each change."""
    found: list[datetime] = []
    read_whole(settings, "changes", lambda message: found.append(recorded_at(message)))
    return found


def test_at_rest_every_topic_moves_on(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "rest")
    begun = datetime.now(UTC)
    with archiving(settings):
        publish(settings, change(1))
        for topic in ("changes", "audit", "probes"):
            until(lambda topic=topic: complete_to(store, topic) > begun, topic)  # type: ignore[misc]
        seen = complete_to(store, "changes")
        until(lambda: complete_to(store, "changes") > seen + timedelta(seconds=1), "more of it, though nothing came")
    parts = store.client().query("SELECT topic, count() FROM watermark_parts FINAL GROUP BY topic").result_rows
    assert {count for _, count in parts} == {PARTITIONS}
    assert complete_to(store, "changes") < datetime.now(UTC)


def test_an_archiver_that_starts_knows_nothing_yet(kafka: str, store: RunningStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three partitions only one has a record: what is known of it must not stand for the topic."""
    monkeypatch.setattr(pump, "COMPARE_SECONDS", 3600.0)
    settings = archiver_settings(kafka, store, "starts")
    with archiving(settings):
        publish(settings, change(1))
        until(lambda: numbers(store) == [1], "the row")
        until(
            lambda: (
                store.client().query("SELECT count() FROM watermark_parts WHERE topic = 'changes' AND complete_to > 0").result_rows[0][0]
            ),
            "the mark of one partition",
        )
        assert complete_to(store, "changes") == EPOCH


def test_an_open_transaction_holds_its_topic_back(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "open")
    producer, codec = transactional_producer(settings, "writer"), Codec()
    producer.begin_transaction()
    for number in range(3):
        topic, key, event = change(number)
        producer.produce(prefixed(settings, topic), codec.encode(topic, event), key.encode(), number % PARTITIONS)
    producer.flush()
    appended = datetime.now(UTC)
    with archiving(settings):
        until(lambda: complete_to(store, "audit") > appended + timedelta(seconds=1), "a topic without a transaction")
        assert complete_to(store, "changes") == EPOCH
        assert numbers(store) == []
        producer.commit_transaction()
        until(lambda: complete_to(store, "changes") > appended, "the topic, once the transaction has ended")
        assert sorted(numbers(store)) == [0, 1, 2]


def test_what_is_said_to_be_complete_is_there(kafka: str, store: RunningStore) -> None:
    """While records come, look again and again: all that Kafka took before the mark must be in the table then."""
    settings = archiver_settings(kafka, store, "said")
    looks: list[tuple[datetime, int]] = []
    reader = store.client()
    with archiving(settings):
        for number in range(25):
            publish(settings, *(change(5 * number + extra) for extra in range(5)))
            mark = complete_to(store, "changes")
            count = reader.query(
                "SELECT count() FROM changes FINAL WHERE recorded_at < fromUnixTimestamp64Milli({mark:Int64})",
                parameters={"mark": round(mark.timestamp() * 1000)},
            ).result_rows
            looks.append((mark, int(count[0][0])))
        until(lambda: len(numbers(store)) == 125, "all rows")
        until(lambda: complete_to(store, "changes") > max(append_times(settings)), "the last mark")
    times = append_times(settings)
    assert len(times) == 125
    for mark, there in looks:
        assert there == sum(at < mark for at in times)
