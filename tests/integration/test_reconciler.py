"""The reconciler on the real broker and engine: clean after kills and copies; it sees what a hand deletes, doubles or puts in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from consumers.archive import pump
from consumers.reconcile.ledger import TABLES, Verdict
from consumers.reconcile.role import Reconciler
from consumers.reconcile.tables import complete_to
from infra.clickhouse.client import connect
from infra.core.settings import Settings
from infra.kafka.client import prefixed, producer_config, transactional_producer
from schemas.codec import Codec
from schemas.events.observations import HostObservation
from schemas.examples import EXAMPLES
from schemas.ids import content_id
from schemas.rows import ROWS
from tests.archiving import archiver_settings, archiving, caught_up, publish, until
from tests.stores import RunningStore, running_store

pytestmark = [pytest.mark.kafka, pytest.mark.store]
KEPT = [(topic, "k", event) for topic, event in EXAMPLES if type(event) in ROWS]
SEEN = next(event for _, event in EXAMPLES if isinstance(event, HostObservation))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunningStore]:
    with running_store(tmp_path / "store") as found:
        yield found


def now_ms() -> int:
    return round(time.time() * 1000)


def after_all(reconciler: Reconciler, store: RunningStore, moment: int) -> dict[str, Verdict]:
    """The verdicts by table, once every topic is read and written up to this moment."""

    def through() -> bool:
        reconciler.read(0.05)
        marks = complete_to(store.client())
        return all(marks.get(topic, 0) > moment and reconciler._known_to(topic) > moment for topic in TABLES)

    until(through, "all topics to be read and written")
    reconciler.round()
    return {one.table: one for one in reconciler.verdicts}


def make(settings: Settings) -> Reconciler:
    return Reconciler(settings, Codec(), lambda: connect(settings), now_ms() - 60_000)


def test_what_a_hand_deletes_doubles_or_puts_in_is_seen(kafka: str, store: RunningStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "COMPARE_SECONDS", 0.3)
    monkeypatch.setattr(pump, "UPKEEP_SECONDS", 0.2)
    settings = archiver_settings(kafka, store, "reconciled")
    reconciler = make(settings)
    many = [("probes", "k", SEEN.model_copy(update={"observation_id": content_id("o", str(number))})) for number in range(50)]
    with archiving(settings):
        publish(settings, *KEPT, *many)
        aborted = transactional_producer(settings, "aborts")  # takes offsets, and is nobody's loss
        aborted.begin_transaction()
        aborted.produce(prefixed(settings, "probes"), Codec().encode("probes", SEEN), b"k", 1)
        aborted.flush()
        aborted.abort_transaction()
        junk = Producer(producer_config(settings))
        junk.produce(prefixed(settings, "probes"), b"rubbish", b"k", 0)  # is set aside: no loss either
        junk.produce(prefixed(settings, "dlq.probes"), b"rubbish", b"k", 0)  # a letter of nobody: told, and no more
        junk.flush()
        clean = after_all(reconciler, store, now_ms())
        assert set(clean) == {table for tables in TABLES.values() for table in tables} | {f"dlq.{topic}" for topic in TABLES}
        assert all(one.clean and (one.compared or name.startswith("dlq.")) for name, one in clean.items()), clean
        assert clean["observations"] == Verdict("observations", 2 * 51)

        writer = store.client(writer=True)
        writer.command("INSERT INTO changes SELECT * EXCEPT ip FROM changes LIMIT 1", settings={"insert_deduplicate": 0})
        writer.command("INSERT INTO sweeps SELECT * REPLACE ('nobody' AS unit_id) FROM sweeps LIMIT 1")
        writer.command("DELETE FROM observations WHERE observation_id = {id:String} AND port = 22", {"id": many[7][2].observation_id})
        seen = after_all(reconciler, store, now_ms())
    assert seen["changes"] == Verdict("changes", 1, doubles=1)
    assert seen["sweeps"] == Verdict("sweeps", 1, unknown=1)
    assert seen["observations"] == Verdict("observations", 2 * 51, loss=1)
    assert sum(not one.clean for one in seen.values()) == 2
    assert sum(one.records for (topic, _), one in reconciler.ledger.totals.items() if topic == "probes") == 50 + 3
    reconciler.close()


def test_a_record_that_was_neither_written_nor_set_aside_is_a_loss(
    kafka: str, store: RunningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the DLQ's part: an archiver that forgets its letters."""
    monkeypatch.setattr(pump, "COMPARE_SECONDS", 0.3)
    monkeypatch.setattr(pump, "UPKEEP_SECONDS", 0.2)
    settings = archiver_settings(kafka, store, "forgets")
    reconciler = make(settings)
    junk = Producer(producer_config(settings))
    junk.produce(prefixed(settings, "changes"), b"rubbish", b"k", 0)
    junk.flush()
    monkeypatch.setattr("consumers.archive.letters.DeadLetters.add", lambda *_: None)
    with archiving(settings):
        until(lambda: caught_up(settings), "the archiver to be past it")
        assert after_all(reconciler, store, now_ms())["dlq.changes"] == Verdict("dlq.changes", 1, loss=1)
    reconciler.close()
