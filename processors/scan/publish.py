"""Finished units in one transaction: of each its results, the request for its rest, its dead letter if it has one, and its offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from infra.core.errors import Poison
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import MOST_BYTES, MOST_VALUE, abort, prefixed, transactional_producer
from infra.kafka.deadletters import dead_letter
from processors.scan.intake import Entry
from processors.scan.partial import Outcome
from schemas.access import scanner_transaction
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.ids import partition_of, subnet_key
from schemas.topics import work_topic

log = structlog.get_logger()
MOST_BATCH = 2 * MOST_BYTES  # bytes of a transaction, but for a first unit that is larger: each must end well within its 10 s
MOST_ABORTS = 20  # in a row, before the role gives up and its supervisor starts it anew

Output = tuple[str, bytes, int, bytes]
"""Topic on the cluster, key, partition, value."""


class UnitPublisher:
    """Publishes finished units. Its transactional id is this agent's and slot's, so a restart ends what its predecessor left open."""

    def __init__(self, settings: Settings, codec: Codec, meter: Meter) -> None:
        self._settings, self._codec, self._meter, mine = settings, codec, meter, settings.scanner
        self._role = scanner_transaction(mine.zone, mine.agent_id or "")
        self._producer: Producer = transactional_producer(settings, self._role)
        self._aborts = 0

    def publish(self, entries: Sequence[Entry], consumer: Consumer) -> int:
        """Publish units that are done, in their order, so many as one transaction takes; returns how many. 0: none was, try again.

        All of them or none: a commit costs the same for one as for many. Raises KafkaException if trying again can't help.
        """
        batch = self._batch(entries)
        self._producer.begin_transaction()
        try:
            for entry, records in batch:
                for topic, key, where, value in records:
                    self._produce(topic, value, key, where)
                if entry.outcome is not None and entry.outcome.error is not None:
                    dead_letter(self._producer, self._settings, entry.message, work_topic(self._settings.scanner.zone), entry.outcome.error)
            done = {entry.partition: TopicPartition(entry.message.topic() or "", entry.partition, entry.offset + 1) for entry, _ in batch}
            self._producer.send_offsets_to_transaction([*done.values()], consumer.consumer_group_metadata(), 10.0)
            self._producer.commit_transaction()
        except KafkaException as error:
            self._abort(error)
            return 0
        self._aborts = 0
        self._meter.emitted(sum(len(records) for _, records in batch))
        return len(batch)

    def _batch(self, entries: Sequence[Entry]) -> list[tuple[Entry, list[Output]]]:
        """The first of these units, as many as fit into a transaction, with their records."""
        found, size = list[tuple[Entry, list[Output]]](), 0
        for entry in entries:
            if entry.outcome is None:
                raise ValueError("only a unit that is done can be published")
            records = self._records(entry.outcome)
            if any(len(value) > MOST_VALUE for *_, value in records):
                log.warning("unit_set_aside", partition=entry.partition, offset=entry.offset, error="Poison", reason=TOO_LARGE)
                entry.finish(too_large(entry.outcome))
                records = self._records(entry.outcome)
            size += sum(len(value) for *_, value in records)
            if found and size > MOST_BATCH:
                break
            found.append((entry, records))
        return found

    def _records(self, outcome: Outcome) -> list[Output]:
        return [
            (
                prefixed(self._settings, topic),
                key.encode(),
                partition_of(route, self._settings.kafka.partitions),
                self._codec.encode(topic, event),
            )
            for topic, key, route, event in outputs(outcome)
        ]

    def _produce(self, topic: str, value: bytes, key: bytes, where: int) -> None:
        """Queue a record; a queue that is full is sent first. Raises KafkaException."""
        try:
            self._producer.produce(topic, value, key, where)
        except BufferError:
            self._producer.flush(5.0)
            self._producer.produce(topic, value, key, where)

    def _abort(self, failure: KafkaException) -> None:
        """Undo. A rebalance in between, or a broker that was away, gets another chance; a successor with our id (fencing) does not."""
        cause = failure.args[0]
        self._aborts += 1
        hopeless = not isinstance(cause, KafkaError) or cause.fatal() or not (cause.txn_requires_abort() or cause.retriable())
        if hopeless or self._aborts > MOST_ABORTS:
            raise failure
        log.warning("unit_not_published_yet", reason=cause.str(), tries=self._aborts)
        self._producer = abort(self._producer, self._settings, self._role)


TOO_LARGE = "its results are larger than a record may be"


def too_large(outcome: Outcome) -> Outcome:
    """What is published for results that no record can hold: the word that nothing was probed, and the unit's dead letter."""
    nothing = {"probed": (), "hosts": (), "complete": False, "stopped_reason": TOO_LARGE}
    return Outcome(tuple(one.model_copy(update=nothing) for one in outcome.sweeps), error=Poison(TOO_LARGE))


def outputs(outcome: Outcome) -> Iterator[tuple[str, str, str, Event]]:
    """Topic, key, what decides the partition, event: in the order in which they are written."""
    for sweep in outcome.sweeps:
        place = subnet_key(sweep.zone, sweep.subnet)
        yield "probes", place, place, sweep
    for host in outcome.hosts:
        place = subnet_key(host.zone, host.subnet)
        yield "probes", place, place, host
    for request in outcome.rest:
        yield "targets", request.request_id, request.request_id, request
