"""Finished units are published together: all of them or none, each once, no more than a transaction takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from infra.core.settings import KafkaSettings, Settings
from infra.core.telemetry import Meter
from infra.kafka import client
from processors.scan import publish
from processors.scan.intake import Entry
from processors.scan.partial import Outcome
from processors.scan.publish import UnitPublisher
from schemas.codec import Codec
from tests.scan_samples import make_unit, sweep_of
from tests.simulation.clients import SimConsumer, SimProducer
from tests.simulation.lone import LoneWorld

WORK = "work.default"
CODEC = Codec()


@dataclass(frozen=True, slots=True)
class Bench:
    """A publisher in front of a simulated broker."""

    world: LoneWorld
    publisher: UnitPublisher
    producer: SimProducer
    consumer: Consumer

    def publish(self, entries: list[Entry]) -> int:
        """How many were published."""
        return self.publisher.publish(entries, self.consumer)

    def published(self) -> tuple[list[str], int]:
        """The units that a reader of committed records sees, and how many transactions ended."""
        self.consumer.poll(1.0)  # the markers are written a little later
        log = self.world.broker.logs["probes", 0]
        units = [cast("Any", CODEC.decode("probes", entry.value or b"")).unit_id for _, entry in log.committed()]
        return units, sum(entry.marker for entry in log.entries)


@pytest.fixture
def bench() -> Iterator[Bench]:
    world = LoneWorld({WORK: 1, "probes": 1})
    producer, consumer = SimProducer(world, {"transactional.id": "scanner"}), SimConsumer(world, {"group.id": "scanner"})
    producer.init_transactions()
    consumer.subscribe([WORK], lambda who, places: who.assign(places), lambda *_: None, lambda *_: None)
    consumer.poll(1.0)
    settings = Settings(kafka=KafkaSettings(bootstrap="nowhere:1", partitions=1))
    made = mock.Mock(return_value=producer)
    with mock.patch.object(publish, "transactional_producer", made), mock.patch.object(client, "transactional_producer", made):
        yield Bench(world, UnitPublisher(settings, CODEC, Meter("scanner")), producer, cast("Consumer", consumer))


def done(count: int) -> list[Entry]:
    entries = []
    for number in range(count):
        unit = make_unit(number)
        entries.append(Entry(0, number, Message(WORK, 0, number, b"k", b"v"), unit, 0.0))
        entries[-1].finish(Outcome((sweep_of(unit, "agent", 1, 1),)))
    return entries


def test_what_is_done_is_published_in_one_transaction_with_the_last_offset(bench: Bench) -> None:
    entries = done(5)
    assert bench.publish(entries) == 5
    assert bench.published() == ([one.unit.unit_id for one in entries if one.unit], 1)
    assert bench.world.broker.groups["scanner"].offsets == {(WORK, 0): 5}


def test_what_a_transaction_cannot_take_waits_for_the_next(bench: Bench) -> None:
    entries = done(5)
    size = len(CODEC.encode("probes", entries[0].outcome.sweeps[0])) if entries[0].outcome else 0
    with mock.patch.object(publish, "MOST_BATCH", 2 * size + size // 2):
        assert [bench.publish(entries), bench.publish(entries[2:]), bench.publish(entries[4:])] == [2, 2, 1]
    assert bench.published() == ([one.unit.unit_id for one in entries if one.unit], 3)


def test_after_an_abort_nothing_is_seen_and_all_of_it_comes_again(bench: Bench) -> None:
    entries = done(3)
    refusal = KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION, "of another generation", txn_requires_abort=True))
    with mock.patch.object(bench.producer, "send_offsets_to_transaction", side_effect=refusal):
        assert bench.publish(entries) == 0
    assert bench.published()[0] == []
    assert bench.publish(entries) == 3
    assert bench.published()[0] == [one.unit.unit_id for one in entries if one.unit]
