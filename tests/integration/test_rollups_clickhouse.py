"""The rollups, which Faust computes and the archiver keeps, equal the same questions asked of ClickHouse over the raw rows."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.core.settings import Settings
from infra.kafka.client import prefixed, transactional_producer
from schemas.codec import Codec
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.base import Event
from schemas.events.operations import AgentState, AgentStatus
from schemas.ids import partition_of
from tests.archiving import PARTITIONS, archiver_settings, archiving
from tests.integration.test_rollups import rollups
from tests.stores import RunningStore, running_store

pytestmark = [pytest.mark.kafka, pytest.mark.store, pytest.mark.slow]
Figures = dict[tuple[str, str, str, datetime], tuple[int, float]]

KEPT = "SELECT name, zone, kind, window_start, count, value FROM rollups FINAL"
# What was recorded more than an hour after its minute had ended is in no window.
ASKED = """
WITH toStartOfMinute(observed_at) AS start, date_diff('millisecond', observed_at, recorded_at) / 1000 AS delay
SELECT 'changes', zone, kind, start, count(), toFloat64(count())
FROM changes FINAL WHERE recorded_at < start + INTERVAL 3660 SECOND GROUP BY zone, kind, start
UNION ALL
SELECT 'change_delay', zone, level.1, start, count(), quantilesExact(0.5, 0.9, 0.99)(delay)[level.2]
FROM changes FINAL ARRAY JOIN [('p50', 1), ('p90', 2), ('p99', 3)] AS level
WHERE recorded_at < start + INTERVAL 3660 SECOND GROUP BY zone, start, level
UNION ALL
SELECT 'agents_alive', zone, 'alive', toStartOfMinute(at) AS beat, count(), toFloat64(count())
FROM agents FINAL WHERE state != 'stopped' GROUP BY zone, beat
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with running_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(autouse=True)
def empty(store: RunningStore) -> None:
    """Every test finds the tables empty."""
    for table in ("changes", "agents", "rollups"):
        store.client(writer=True).command(f"TRUNCATE TABLE {table}")


def figures(store: RunningStore, sql: str) -> Figures:
    """The figures that a query gives."""
    rows = store.client().query(sql).result_rows
    return {(name, zone, kind, start.replace(tzinfo=UTC)): (count, round(value, 3)) for name, zone, kind, start, count, value in rows}


def events(seed: int, now: datetime) -> Iterator[tuple[str, str, Event]]:
    """Changes of the last minutes, one in ten too late for its window, and one heartbeat of each of some agents."""
    dice = random.Random(seed)  # noqa: S311  repeatable, not secret
    for number in range(150):
        yield (
            "changes",
            f"key {number}",
            AssetChange(
                change_id=f"{seed}-{number}",
                kind=dice.choice([ChangeKind.SERVICE_OPENED, ChangeKind.SERVICE_CLOSED, ChangeKind.HOST_UP]),
                zone=dice.choice(["default", "lab"]),
                address=f"198.18.0.{number}",
                subnet="198.18.0.0/24",
                revision=1,
                summary="",
                observed_at=now - timedelta(seconds=7200 if number % 10 == 0 else dice.choice([1, 30, 100, 200])),
            ),
        )
    for number in range(9):
        state = dice.choice([AgentState.IDLE, AgentState.WORKING, AgentState.STOPPED])
        at = now - timedelta(seconds=dice.choice([1, 61, 121]))
        name = f"agent-{seed}-{number}"
        yield (
            "agents",
            name,
            AgentStatus(
                agent_id=name,
                zone=dice.choice(["default", "lab"]),
                state=state,
                version="1",
                engine="syn",
                capabilities=(),
                started_at=at,
                at=at,
            ),
        )


def publish(settings: Settings, seed: int, now: datetime, aborted: bool = False) -> None:
    """One transaction with these events."""
    producer, codec = transactional_producer(settings, "writer"), Codec()
    producer.begin_transaction()
    for topic, key, event in events(seed, now):
        producer.produce(prefixed(settings, topic), codec.encode(topic, event), key.encode(), partition_of(key, PARTITIONS))
    producer.flush()
    if aborted:
        producer.abort_transaction()
    else:
        producer.commit_transaction()


def wait_until_equal(store: RunningStore, changes: int, values: bool = True) -> Figures:
    """Wait until so many changes are in windows, in both answers alike (`values`: their values too, else the counts alone)."""
    deadline = time.monotonic() + 90
    while True:
        asked, kept = figures(store, ASKED), figures(store, KEPT)
        counted = sum(count for (name, *_), (count, _) in kept.items() if name == "changes")
        if counted == changes and (asked == kept if values else counts(asked) == counts(kept)):
            return kept
        assert time.monotonic() < deadline, f"{counted} changes; only in one of the answers: {asked.items() ^ kept.items()}"
        time.sleep(0.3)


def counts(found: Figures) -> dict[tuple[str, str, str, datetime], int]:
    """Without the values: of a change that was published twice Faust takes the first copy's delay, ClickHouse the last's."""
    return {key: count for key, (count, _) in found.items()}


def test_rollups_equal_the_same_questions_asked_of_clickhouse(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "rollups-asked")
    now = datetime.now(UTC)
    publish(settings, 1, now)
    publish(settings, 2, now, aborted=True)
    with archiving(settings), rollups(settings):
        first = wait_until_equal(store, 135)
        publish(settings, 3, now)
        publish(settings, 4, now, aborted=True)
        both = wait_until_equal(store, 270)
    assert {name for name, *_ in both} == {"changes", "change_delay", "agents_alive"}
    assert both != first
    rows = store.client().query("SELECT count(), countIf(change_id LIKE '1-%' OR change_id LIKE '3-%') FROM changes FINAL").result_rows
    assert rows == [(300, 300)], "late changes are rows too, aborted ones are not"


def test_a_copy_of_a_change_is_counted_by_neither(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "rollups-copy")
    now = datetime.now(UTC)
    publish(settings, 5, now)
    with archiving(settings), rollups(settings):
        before = wait_until_equal(store, 135)
        publish(settings, 5, now)
        publish(settings, 6, now)
        after = counts(wait_until_equal(store, 270, values=False))
    assert all(after[key] >= count for key, count in counts(before).items())
