"""Moves records from topics into a sink: batches that are contiguous in every partition, offsets committed after the write.

A crash between write and commit writes a batch twice; the sink's rows are keyed so that this changes nothing. A sink that can't
take more now pauses the partitions; polling goes on, so that the group stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event as Flag

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from consumers.archive.sink import Sink
from infra.core.errors import Backpressure
from infra.core.ports import Ready, Record
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import consumer_config, key_of, prefixed, producer_config, value_of
from infra.kafka.deadletters import Fuse, FuseBlown, dead_letter
from infra.kafka.timestamps import recorded_at
from schemas.codec import Codec, UndecodableError

log = structlog.get_logger()
WAIT_SECONDS = 0.5
IDLE_SECONDS = 15.0


class Pump:
    """One sink, one consumer group."""

    def __init__(self, settings: Settings, sink: Sink, group: str, codec: Codec) -> None:
        self._settings, self._sink, self._codec = settings, sink, codec
        self._topics = {prefixed(settings, topic): topic for topic in sink.topics}
        self._consumer = Consumer(consumer_config(settings, group))
        self._dead = Producer(producer_config(settings))
        self._meter, self._fuse = Meter(group), Fuse()
        self._idle_due = self._lag_due = 0.0

    def run(self, stop: Flag, ready: Ready) -> None:
        """Move records until `stop` is set. Raises FuseBlown when most records are bad, KafkaException when Kafka refuses."""
        self._consumer.subscribe(list(self._topics), on_assign=lambda *_: ready())
        try:
            while not stop.is_set():
                batch = self._gather()
                if batch:
                    self._write(batch, stop)
                elif time.monotonic() > self._idle_due:
                    self._idle_due = time.monotonic() + IDLE_SECONDS
                    self._at_rest()
                self._tell()
        finally:
            self._consumer.close()

    def positions(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Where this worker is: (topic, partition) → (next offset, end of the partition as last heard)."""
        found = {}
        for place in self._consumer.position(self._consumer.assignment()):
            _, high = self._consumer.get_watermark_offsets(place, cached=True)
            found[self._topics[place.topic], place.partition] = (place.offset, high)
        return found

    def _gather(self) -> list[Message]:
        first = self._consumer.poll(WAIT_SECONDS)
        self._meter.beat()
        if first is None:
            return []
        found = [first, *self._consumer.consume(self._settings.archiver.batch_rows - 1, self._settings.archiver.flush_ms / 1000)]
        return [message for message in found if self._sound(message)]

    def _sound(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal() or error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            raise KafkaException(error)
        log.warning("consumer_error", reason=error.str())
        return False

    def _write(self, batch: Sequence[Message], stop: Flag) -> None:
        records = [record for message in batch if (record := self._decoded(message)) is not None]
        self._dead.flush(30.0)
        while records:
            try:
                self._sink.write(records)
                break
            except Backpressure as pause:
                log.warning("sink_holds", sink=self._sink.name, retry_after=pause.retry_after)
                self._meter.error(f"{self._sink.name} takes nothing now")
                if not self._wait(pause.retry_after, stop):
                    return  # nothing is committed: the batch comes again
        offsets: dict[tuple[str, int], int] = {}
        for message in batch:
            offsets[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        self._commit([TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()])
        self._meter.emitted(len(records))
        if self._fuse.blown():
            raise FuseBlown("Most records that the archiver read lately were bad; it stopped.", "See 'driftline dlq list'.")

    def _commit(self, offsets: list[TopicPartition]) -> None:
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning("commit_failed", reason=str(error))  # a rebalance came between: whoever owns it now writes it again

    def _wait(self, seconds: float, stop: Flag) -> bool:
        self._consumer.pause(self._consumer.assignment())
        until = time.monotonic() + seconds
        while time.monotonic() < until and not stop.is_set():
            self._consumer.poll(0.2)
            self._meter.beat()
        self._consumer.resume(self._consumer.assignment())
        return not stop.is_set()

    def _decoded(self, message: Message) -> Record | None:
        topic = self._topics[message.topic() or ""]
        self._meter.received()
        try:
            value = value_of(message)
            event = None if value is None else self._codec.decode(topic, value)
        except UndecodableError as error:
            dead_letter(self._dead, self._settings, message, topic, error)
            self._fuse.note(bad=True)
            self._meter.discarded("decode")
            return None
        self._fuse.note(bad=False)
        return Record(topic, message.partition() or 0, message.offset() or 0, recorded_at(message), key_of(message), event)

    def _at_rest(self) -> None:
        try:
            self._sink.idle()
        except Backpressure as pause:
            log.warning("sink_holds", sink=self._sink.name, retry_after=pause.retry_after)

    def _tell(self) -> None:
        if time.monotonic() > self._lag_due:
            self._lag_due = time.monotonic() + 5
            self._meter.lag(sum(max(0, high - offset) for offset, high in self.positions().values() if offset >= 0))
