"""The transactional loop: runs one step of the pipeline so that each record has exactly one effect.

One batch, one Kafka transaction:
  1. wait for the first record (long poll), then gather for 3 ms;
  2. apply what is new in the global inputs, once for every partition;
  3. decode and handle each record; a bad one goes to its DLQ, its writes are dropped;
  4. produce outputs, state changes (to the changelog) and consumed offsets, commit;
  5. write the state changes to the local store, with the changelog offset that they stand for.
On an abortable error the batch is dropped and read again; on any other the role stops, loudly, and its supervisor starts it anew.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from threading import Event as Flag

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.core.errors import Backpressure, Poison
from infra.core.ports import Context, Emit, Ready, Record, Step, StepPlan
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import consumer_config, insist, key_of, prefixed, transactional_producer, unreachable, value_of
from infra.kafka.deadletters import Fuse, FuseBlown, dead_letter
from infra.kafka.globaltables import GlobalTables
from infra.kafka.partitions import Partitions
from infra.kafka.registry import codec_for
from infra.kafka.timestamps import recorded_at
from schemas.codec import Codec, UndecodableError
from schemas.ids import partition_of
from schemas.topics import topic_named

log = structlog.get_logger()
WAIT_SECONDS = 0.5
GATHER_SECONDS = 0.003
BATCH = 2000


def run_step(settings: Settings, plan: StepPlan, make_step: Callable[[Codec], Step], stop: Flag, ready: Ready) -> None:
    """Run a step until `stop` is set. Raises DriftlineError for what a person must mend."""
    codec = codec_for(settings)
    loop = StepLoop(settings, plan, make_step(codec), codec)
    try:
        loop.run(stop, ready)
    except KafkaException as error:
        raise unreachable(settings, error) from error
    finally:
        loop.close()


class StepLoop:
    """The loop of one worker."""

    def __init__(self, settings: Settings, plan: StepPlan, step: Step, codec: Codec) -> None:
        self._settings, self._plan, self._step, self._codec = settings, plan, step, codec
        self._meter, self._fuse = Meter(plan.role), Fuse()
        self._topics = {prefixed(settings, name): name for name in plan.inputs}
        self._producer: Producer = transactional_producer(settings, plan.role)
        self._consumer = Consumer(consumer_config(settings, plan.role))
        self._tables = GlobalTables(settings, tuple(dict.fromkeys((*plan.global_tables, *plan.global_inputs))), codec)
        self._partitions = Partitions(settings, plan, self._consumer)
        self._changelog_offsets: dict[int, int] = {}
        self._lag_due = 0.0

    def run(self, stop: Flag, ready: Ready) -> None:
        """Poll and commit until `stop` is set."""
        self._tables.load()
        self._consumer.subscribe(
            list(self._topics), on_assign=self._partitions.assigned, on_revoke=self._partitions.revoked, on_lost=self._partitions.revoked
        )
        announced = False
        while not stop.is_set():
            batch = self._gather()
            self._partitions.restore()
            if not announced and self._partitions.settled():
                announced = True
                self._meter.ready()
                ready()
            self._tables.poll()
            if batch:
                self._tables.catch_up(self._plan.global_tables)
            if batch or self._global_news():
                self._commit([message for message in batch if self._partitions.owns(message)])
            self._tell()

    def close(self) -> None:
        """Leave the group at once, so that others take over, and release the store."""
        self._consumer.close()
        self._tables.close()
        self._partitions.close()

    def _gather(self) -> list[Message]:
        first = self._consumer.poll(WAIT_SECONDS)
        self._meter.beat()
        if first is None:
            return []
        found = [first, *self._consumer.consume(BATCH - 1, GATHER_SECONDS)]
        return [message for message in found if self._sound(message)]

    def _sound(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal() or error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            raise KafkaException(error)
        log.warning("consumer_error", reason=error.str())
        return False

    def _global_news(self) -> bool:
        return any(
            self._partitions.applied(partition, topic) < self._tables.next_offset(topic)
            for topic in self._plan.global_inputs
            for partition in self._partitions.owned()
        )

    def _commit(self, batch: list[Message]) -> None:
        self._producer.begin_transaction()
        try:
            self._apply_tables()
            for message in batch:
                self._handle(message)
            self._produce_state()
            if batch:
                offsets = _positions(batch)
                group = self._consumer.consumer_group_metadata()
                insist(lambda: self._producer.send_offsets_to_transaction(offsets, group, 10.0))
            self._producer.flush(30.0)  # serves the delivery reports that tell the changelog's offsets
            insist(lambda: self._producer.commit_transaction(10.0))
        except Backpressure as pause:
            self._abort(batch)
            self._hold(pause.retry_after)
            return
        except KafkaException as error:
            cause = error.args[0]
            if not (isinstance(cause, KafkaError) and cause.txn_requires_abort()):
                raise
            log.warning("transaction_aborted", reason=cause.str())
            self._meter.error(cause.str())
            self._abort(batch)
            return
        self._partitions.write_down(self._changelog_offsets)
        if self._fuse.blown():
            raise FuseBlown(
                f"Most records that the {self._plan.role} read lately were bad; it stopped.",
                "See 'driftline dlq list', mend the source, start it again.",
            )

    def _apply_tables(self) -> None:
        for topic in self._plan.global_inputs:
            news = self._tables.next_offset(topic)
            for partition in self._partitions.owned():
                done = self._partitions.applied(partition, topic)
                if done >= news:
                    continue
                for record in self._tables.since(topic, done):
                    self._produce(partition, record)
                self._partitions.note_applied(partition, topic, news)

    def _handle(self, message: Message) -> None:
        topic, partition = self._topics[message.topic() or ""], message.partition() or 0
        self._meter.received()
        state = self._partitions.state(partition)
        try:
            value = value_of(message)
            event = None if value is None else self._codec.decode(topic, value)
            self._produce(partition, Record(topic, partition, message.offset() or 0, recorded_at(message), key_of(message), event))
        except (UndecodableError, Poison) as error:
            state.drop()
            dead_letter(self._producer, self._settings, message, topic, error)
            self._fuse.note(bad=True)
            self._meter.discarded("decode" if isinstance(error, UndecodableError) else "handle")
            self._meter.error(str(error))
            log.warning("record_set_aside", topic=topic, partition=partition, offset=message.offset(), reason=str(error))
        else:
            self._fuse.note(bad=False)

    def _produce(self, partition: int, record: Record) -> None:
        """Handle one record and send its outputs, all or none."""
        state = self._partitions.state(partition)
        context = Context(partition, self._settings.kafka.partitions, state, self._tables)
        outputs = list(self._step.handle(record, context))
        ready = [(one, one.raw if one.event is None else self._codec.encode(one.topic, one.event)) for one in outputs]
        for one, value in ready:
            self._send(prefixed(self._settings, one.topic), value, one.key, self._where(one))
        state.keep()
        self._meter.emitted(len(outputs))

    def _where(self, emit: Emit) -> int:
        if emit.partition is not None:
            return emit.partition
        return partition_of(emit.route or emit.key, topic_named(emit.topic).partitions(self._settings.kafka.partitions))

    def _send(self, topic: str, value: bytes | None, key: str, partition: int, track: bool = False) -> None:
        delivered = self._changelog_written if track else None
        while True:
            try:
                self._producer.produce(topic, value, key.encode(), partition, on_delivery=delivered)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _produce_state(self) -> None:
        if self._plan.changelog is None:
            return
        topic = prefixed(self._settings, self._plan.changelog)
        for partition in self._partitions.owned():
            for key, value in self._partitions.state(partition).batch.items():
                self._send(topic, value, key, partition, track=True)

    def _changelog_written(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            partition = message.partition() or 0
            self._changelog_offsets[partition] = max(self._changelog_offsets.get(partition, 0), (message.offset() or 0) + 1)

    def _abort(self, batch: list[Message]) -> None:
        insist(lambda: self._producer.abort_transaction(10.0))
        self._changelog_offsets.clear()
        self._partitions.forget_batch()
        for position in _positions(batch, first=True):
            if self._partitions.has(position.partition):
                self._consumer.seek(position)

    def _hold(self, seconds: float) -> None:
        """The next stage can't take more: fetch nothing, keep polling, go on later."""
        held = self._consumer.assignment()
        self._consumer.pause(held)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._consumer.poll(min(0.2, seconds))
            self._meter.beat()
        self._consumer.resume([one for one in self._consumer.assignment() if one in held])

    def _tell(self) -> None:
        if time.monotonic() < self._lag_due:
            return
        self._lag_due = time.monotonic() + 5
        lag = 0
        for position in self._consumer.position(self._consumer.assignment()):
            if position.offset >= 0:
                _, high = self._consumer.get_watermark_offsets(position, cached=True)
                lag += max(0, high - position.offset)
        self._meter.lag(lag)


def _positions(batch: list[Message], first: bool = False) -> list[TopicPartition]:
    """Where to go on after this batch, or (`first`) where it began."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for message in batch:
        found[message.topic() or "", message.partition() or 0].append(message.offset() or 0)
    return [TopicPartition(topic, number, min(seen) if first else max(seen) + 1) for (topic, number), seen in found.items()]
