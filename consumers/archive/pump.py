"""Moves records from topics into a sink: batches that are contiguous in every partition, offsets committed after the write.

A crash between write and commit writes a batch twice; the sink's rows are keyed so that this changes nothing. A sink that can't
take more now pauses the partitions; polling goes on, so that the group stays as it is. A record that can't be decoded, or that the
sink can never write, goes to its DLQ; the rest of its batch is written.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event as Flag

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from consumers.archive.intake import Batch, Intake
from consumers.archive.letters import DeadLetters
from consumers.archive.progress import Progress
from consumers.archive.sink import Sink
from infra.core.errors import Backpressure, Poison
from infra.core.ports import Ready, Record
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import connection, consumer_config, key_of, prefixed, value_of
from infra.kafka.deadletters import Fuse, FuseBlown
from infra.kafka.timestamps import recorded_at
from schemas.codec import Codec, UndecodableError
from schemas.topics import topic_named

log = structlog.get_logger()
UPKEEP_SECONDS, LAG_SECONDS, COMPARE_SECONDS = 1.0, 5.0, 15.0
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
# One insert may hang as long as its client waits (300 s); that must not throw us out of the group.
MAX_POLL_MS = 900_000


class Pump:
    """One sink, one consumer group."""

    def __init__(self, settings: Settings, sink: Sink, group: str, codec: Codec, progress: Progress) -> None:
        self._sink, self._codec, self._progress = sink, codec, progress
        self._topics = {prefixed(settings, topic): topic for topic in sink.topics}
        over = {"enable.partition.eof": True, "max.poll.interval.ms": MAX_POLL_MS}
        self._consumer = Consumer(consumer_config(settings, group, **over))
        self._intake = Intake(self._consumer, self._topics, settings.archiver)
        self._admin = AdminClient(connection(settings))
        self._letters = DeadLetters(settings)
        self._meter, self._fuse = Meter(group), Fuse()
        self._upkeep_due = self._lag_due = self._compare_due = 0.0

    def run(self, stop: Flag, ready: Ready) -> None:
        """Move records until `stop` is set. Raises FuseBlown when most records are bad, KafkaException when Kafka refuses."""

        def take(_: Consumer, places: list[TopicPartition]) -> None:
            self._progress.take(map(self._intake.place, places))
            ready()

        def drop(_: Consumer, places: list[TopicPartition]) -> None:
            self._progress.drop(map(self._intake.place, places))

        self._consumer.subscribe(list(self._topics), on_assign=take, on_revoke=drop, on_lost=drop)
        try:
            while not stop.is_set():
                batch = self._intake.gather()
                self._meter.beat()
                if batch.messages:
                    with _no_garbage_collection():
                        if not self._write(batch, stop):
                            return  # nothing of it is committed: it comes again
                for place, offset in batch.ends.items():
                    self._progress.at_end(place, offset)
                self._upkeep()
        finally:
            self._consumer.close()

    def _write(self, batch: Batch, stop: Flag) -> bool:
        """Write a batch and commit it; False when it was stopped before that."""
        begun = time.monotonic()
        pairs = [(message, record) for message in batch.messages if (record := self._decoded(message)) is not None]
        if not self._deliver(pairs, stop):
            return False
        self._letters.flush()
        last = {self._intake.place(message): message for message in batch.messages}
        for place, message in last.items():
            self._progress.written(place, (message.offset() or 0) + 1, recorded_at(message))
        self._commit(list(last.values()))
        self._intake.pace.wrote(begun, time.monotonic())
        if self._fuse.blown():
            raise _blown()
        return True

    def _deliver(self, pairs: Sequence[tuple[Message, Record]], stop: Flag) -> bool:
        """Hand records to the sink, in halves where it refuses them, so that a bad one is found and set aside."""
        todo = [pairs] if pairs else []
        while todo:
            part = todo.pop()
            try:
                if not self._hand_over([record for _, record in part], stop):
                    return False
                self._meter.emitted(len(part))
            except Poison as error:
                middle = len(part) // 2
                if middle:
                    todo += [part[middle:], part[:middle]]
                else:
                    self._set_aside(part[0][0], error)
                self._intake.breathe(0.0)
                self._meter.beat()
        return True

    def _hand_over(self, records: Sequence[Record], stop: Flag) -> bool:
        while not stop.is_set():
            try:
                self._sink.write(records)
            except Backpressure as pause:
                self._hold(pause, stop)
            else:
                return True
        return False

    def _hold(self, pause: Backpressure, stop: Flag) -> None:
        log.warning("sink_holds", sink=self._sink.name, retry_after=pause.retry_after)
        self._meter.error(f"{self._sink.name} takes nothing now")
        until = time.monotonic() + pause.retry_after
        while time.monotonic() < until and not stop.is_set():
            self._intake.breathe(0.2)
            self._meter.beat()

    def _set_aside(self, message: Message, error: Poison) -> None:
        self._letters.add(message, self._topics[message.topic() or ""], error)
        self._fuse.note(bad=True)
        self._meter.discarded("insert")
        self._meter.error(error.reason)
        if self._fuse.blown():
            self._letters.flush()
            raise _blown()

    def _commit(self, last: Sequence[Message]) -> None:
        """Commit behind these messages. What was taken from us meanwhile is its new owner's, who writes it again."""
        ours = {(one.topic, one.partition) for one in self._consumer.assignment()}
        offsets = [
            TopicPartition(one.topic() or "", one.partition() or 0, (one.offset() or 0) + 1)
            for one in last
            if (one.topic(), one.partition()) in ours
        ]
        try:
            if offsets:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning("commit_failed", reason=str(error))

    def _decoded(self, message: Message) -> Record | None:
        topic = self._topics[message.topic() or ""]
        self._meter.received()
        try:
            value = value_of(message)
            event = None if value is None else self._codec.decode(topic, value)
        except UndecodableError as error:
            self._letters.add(message, topic, error)
            if not topic_named(topic).single:  # no row is made of those, so that junk there is no reason to stop
                self._fuse.note(bad=True)
            self._meter.discarded("decode")
            return None
        self._fuse.note(bad=False)
        return Record(topic, message.partition() or 0, message.offset() or 0, recorded_at(message), key_of(message), event)

    def _upkeep(self) -> None:
        now = time.monotonic()
        if now >= self._compare_due:
            self._compare_due = now + COMPARE_SECONDS
            self._compare()
        if now >= self._upkeep_due:
            self._upkeep_due = now + UPKEEP_SECONDS
            try:
                self._sink.idle()
            except Backpressure as pause:
                log.warning("sink_holds", sink=self._sink.name, retry_after=pause.retry_after)
        if now >= self._lag_due:
            self._lag_due = now + LAG_SECONDS
            ends = {
                self._intake.place(one): self._consumer.get_watermark_offsets(one, cached=True)[1] for one in self._consumer.assignment()
            }
            self._meter.lag(self._progress.left(ends))

    def _compare(self) -> None:
        """Ask Kafka where all our partitions end: one request a broker."""
        asked_at = datetime.now(UTC)
        # Made anew: those of the assignment name a leader's epoch, which a restarted broker refuses.
        places = [TopicPartition(one.topic, one.partition) for one in self._consumer.assignment()]
        try:
            asked = self._admin.list_offsets(dict.fromkeys(places, LATEST), request_timeout=5.0) if places else {}
            self._progress.compare({self._intake.place(one): answer.result(10.0).offset for one, answer in asked.items()}, asked_at)
        except (KafkaException, TimeoutError) as error:
            log.warning("ends_unknown", reason=str(error))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Thousands of new objects make Python look for cycles again and again, 40 % of a batch's time; there are none among them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _blown() -> FuseBlown:
    return FuseBlown("Most records that the archiver read lately were bad; it stopped.", "See 'driftline dlq list'.")
