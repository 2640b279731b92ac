"""Moves records from topics into a sink: batches that are contiguous in every partition, offsets committed after the write.

While one batch is written (in a thread), the next one is gathered and decoded. A crash between write and commit writes a batch twice;
the sink's rows are keyed so that this changes nothing. A sink that can't take more now, or takes long, pauses the partitions; polling
goes on, so that the group stays as it is. A record that can't be decoded, or that the sink can never write, goes to its DLQ; the rest
of its batch is written.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event as Flag
from typing import cast

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from consumers.archive.blocks import Block, Columns, Unsure
from consumers.archive.intake import Batch, Intake
from consumers.archive.letters import DeadLetters
from consumers.archive.progress import Progress
from consumers.archive.sink import ColumnSink, Sink
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
APART = 1000  # records that are decoded one by one at a time: that takes some twenty times their bytes
FEW = 64  # records among which one is unusual: not worth halving
PATIENCE_SECONDS, LEAVE_SECONDS = 1.0, 5.0
# One insert may hang as long as its client waits (300 s); that must not throw us out of the group.
MAX_POLL_MS = 900_000


@dataclass(slots=True)
class Job:
    """A batch on its way: what is written as columns, what as records, and the write that runs."""

    batch: Batch
    blocks: list[Block]
    pairs: list[tuple[Message, Record]]
    begun: float
    write: Future[None] | None = None

    def running(self) -> bool:
        """Whether the sink still writes."""
        return self.write is not None and not self.write.done()


class Pump:
    """One sink, one consumer group. With `columns`, `sink` is a ColumnSink."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        group: str,
        codec: Codec,
        progress: Progress,
        columns: Columns | None = None,
        rests: float = 1.0,
    ) -> None:
        self._sink, self._codec, self._progress, self._columns = sink, codec, progress, columns
        self._topics = {prefixed(settings, topic): topic for topic in sink.topics}
        over = {"enable.partition.eof": True, "max.poll.interval.ms": MAX_POLL_MS}
        self._consumer = Consumer(consumer_config(settings, group, **over))
        self._intake = Intake(self._consumer, self._topics, settings.archiver, rests)
        self._admin = AdminClient(connection(settings))
        self._letters = DeadLetters(settings)
        self._meter, self._fuse = Meter(group), Fuse()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._job: Job | None = None
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
                batch = self._intake.gather(lambda: self._job is not None and self._job.running())
                self._meter.beat()
                # Under load the next batch is decoded before this one is written; else this one is committed at once.
                if not self._intake.full(batch):
                    if not self._landed(stop):
                        return  # nothing of it is committed: it comes again
                    self._intake.fill(batch)
                with _no_garbage_collection():
                    job = self._prepared(batch)
                if not self._landed(stop):
                    return
                self._upkeep()
                self._launch(job)
            self._landed(stop)
        finally:
            self._consumer.close()
            self._writer.shutdown(wait=False)

    def _prepared(self, batch: Batch) -> Job:
        """Decode a batch: into columns what may go that way, the rest record by record."""
        begun = time.monotonic()
        self._meter.received(len(batch.messages))
        rest, groups = batch.messages, dict[str, list[Message]]()
        blocks: list[Block] = []
        if self._columns is not None:
            rest = []
            for message in batch.messages:
                topic = self._topics[message.topic() or ""]
                fast = self._columns.takes(topic, value_of(message) or b"")
                (groups.setdefault(topic, []) if fast else rest).append(message)
            for topic, messages in groups.items():
                rest += self._into_blocks(self._columns, topic, messages, blocks)
        return Job(batch, blocks, self._pairs(rest), begun)

    def _into_blocks(self, columns: Columns, topic: str, messages: list[Message], blocks: list[Block]) -> list[Message]:
        """Make blocks of these messages, of halves of them where one is unusual; returns what must go record by record."""
        try:
            values = [value_of(message) or b"" for message in messages]
            table, rows = columns.table(topic, values, [message.timestamp()[1] for message in messages])
        except Unsure:
            middle = len(messages) // 2
            if len(messages) <= FEW:
                return messages
            halves = (messages[:middle], messages[middle:])
            return [one for half in halves for one in self._into_blocks(columns, topic, half, blocks)]
        blocks.append(Block(table, rows, messages))
        for _ in range(min(len(messages), FEW)):
            self._fuse.note(bad=False)
        return []

    def _pairs(self, messages: Sequence[Message]) -> list[tuple[Message, Record]]:
        return [(message, record) for message in messages if (record := self._decoded(message)) is not None]

    def _launch(self, job: Job) -> None:
        """Begin to write a batch."""
        self._job = job
        if job.blocks or job.pairs:
            job.write = self._writer.submit(self._put, job.blocks, [record for _, record in job.pairs])

    def _put(self, blocks: list[Block], records: list[Record]) -> None:
        if blocks:
            cast("ColumnSink", self._sink).write_columns(blocks, records)
        elif records:
            self._sink.write(records)

    def _landed(self, stop: Flag) -> bool:
        """Wait until the batch on its way is written, and commit it; False when it was stopped before that."""
        job, self._job = self._job, None
        if job is None:
            return True
        if not self._delivered(job, stop):
            return False
        self._letters.flush()
        last = {(message.topic(), message.partition()): message for message in job.batch.messages}
        for message in last.values():
            self._progress.written(self._intake.place(message), (message.offset() or 0) + 1, recorded_at(message))
        if last:
            self._commit(list(last.values()))
        for place, offset in job.batch.ends.items():
            self._progress.at_end(place, offset)
        if job.write is not None:
            self._intake.pace.wrote(job.begun, time.monotonic())
        if self._fuse.blown():
            raise _blown()
        return True

    def _delivered(self, job: Job, stop: Flag) -> bool:
        """Whether all of it is written or set aside. What the sink refuses is tried in halves, so that a bad record is found."""
        try:
            if not self._hand_over(job, stop):
                return False
            self._meter.emitted(len(job.pairs) + sum(len(block.messages) for block in job.blocks))
            return True
        except Poison as error:
            if not job.blocks and len(job.pairs) == 1:
                self._set_aside(job.pairs[0][0], error)
                return True
        return all(self._delivered(part, stop) for part in self._parts(job))

    def _parts(self, job: Job) -> Iterator[Job]:
        """What is tried instead of a refused job, each in its turn: halves of its records; of its columns, `APART` records at a time."""
        middle = (len(job.pairs) + 1) // 2
        halves = (job.pairs,) if job.blocks else (job.pairs[:middle], job.pairs[middle:])
        for half in filter(None, halves):
            yield self._next_part(half, job.begun)
        for block in job.blocks:
            for start in range(0, len(block.messages), APART):
                yield self._next_part(self._pairs(block.messages[start : start + APART]), job.begun)

    def _next_part(self, pairs: list[tuple[Message, Record]], begun: float) -> Job:
        self._intake.breathe(0.0)
        self._meter.beat()
        return Job(Batch(), [], pairs, begun)

    def _hand_over(self, job: Job, stop: Flag) -> bool:
        """Write it, again and again while the sink asks for patience; False when it was stopped before that. Raises Poison."""
        records = [record for _, record in job.pairs]
        while True:
            write = job.write or self._writer.submit(self._put, job.blocks, records)
            job.write = None
            try:
                self._wait(write, stop)
                if not write.done():
                    return False
                write.result()
            except Backpressure as pause:
                self._hold(pause, stop)
            else:
                return True
            if stop.is_set():
                return False

    def _wait(self, write: Future[None], stop: Flag) -> None:
        """Until this write has ended, or for some seconds after a stop. If it takes long: poll, so that the group stays as it is."""
        patience = time.monotonic() + PATIENCE_SECONDS
        until = None
        while not write.done() and (until is None or time.monotonic() < until):
            if stop.is_set():
                until = until or time.monotonic() + LEAVE_SECONDS
            wait([write], 0.2)
            if time.monotonic() > patience and not write.done():
                self._intake.breathe(0.0)
                self._meter.beat()

    def _hold(self, pause: Backpressure, stop: Flag) -> None:
        log.warning("sink_holds", sink=self._sink.name, retry_after=pause.retry_after)
        self._meter.error(f"{self._sink.name} takes nothing now{': ' if pause.reason else ''}{pause.reason}")
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
