"""The transactional loop: runs one step of the pipeline so that each record has exactly one effect.

One batch, one Kafka transaction:
  1. wait for the first record (long poll), then gather for 3 ms;
  2. apply what is new in the global inputs, once for every partition;
  3. decode and handle each record, unless a glance at its bytes tells that nothing comes of it; a bad one goes to its DLQ, its writes
     are dropped; after a second the rest waits for the next batch;
  4. send outputs, state changes (to the changelog) and consumed offsets, commit;
  5. write the state changes to the local store, with the changelog offset that they stand for.
On an abortable error the batch is kept and tried again; on any other the role stops, loudly, and its supervisor starts it anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event as Flag

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.core.errors import Backpressure, DriftlineError, Poison
from infra.core.ports import Context, Glancing, Ready, Record, Sifting, Step, StepPlan
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import consumer_config, is_lasting, key_of, prefixed, unreachable, value_of
from infra.kafka.deadletters import Fuse, FuseBlown
from infra.kafka.globaltables import GlobalTables
from infra.kafka.outbox import Outbox
from infra.kafka.partitions import Partitions
from infra.kafka.registry import codec_for
from infra.kafka.timestamps import recorded_at
from schemas.codec import Codec, UndecodableError

log = structlog.get_logger()
WAIT_SECONDS, JOIN_SECONDS = 0.5, 0.05
GATHER_SECONDS = 0.003
SLICE_SECONDS = 1.0  # well below the transaction's timeout of 10 s, and enough that commits cost little
BATCH = 10_000
COMMIT_SECONDS = 90.0  # librdkafka may wait without end for a coordinator that died for good (#5456): then the role is started anew


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
        self._outbox = Outbox(settings, plan, codec)
        self._consumer = Consumer(consumer_config(settings, plan.role))
        tables = tuple(dict.fromkeys((*plan.global_tables, *plan.global_inputs)))
        self._tables = GlobalTables(settings, tables, codec, plan.global_inputs)
        self._partitions = Partitions(settings, plan, self._consumer)
        self._glance = step.changes_nothing if isinstance(step, Glancing) else None
        self._sift = step.concerns if isinstance(step, Sifting) else None
        self._contexts: dict[int, Context] = {}
        self._verdicts: list[bool] = []
        self._emitted = 0
        self._left: list[Message] = []  # taken, not handled yet, in order
        self._left_epoch = 0
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
                owned = set(self._partitions.owned())
                self._commit([message for message in batch if message.partition() in owned])
            self._tell()

    def close(self) -> None:
        """Leave the group at once, so that others take over, and release the store."""
        self._consumer.close()
        self._tables.close()
        self._partitions.close()

    def _gather(self) -> list[Message]:
        """What was left, and what comes. After a rebalance, what was taken before it is fetched again from the committed offset."""
        # The first assignment comes within this call, and is restored behind it: no record will come before that.
        patience = WAIT_SECONDS if self._partitions.settled() else JOIN_SECONDS
        first = self._consumer.poll(0 if self._left else patience)
        self._meter.beat()
        epoch = self._partitions.epoch
        found = [*(self._left if epoch == self._left_epoch else []), *([first] if first is not None else [])]
        self._left = []
        if 0 < len(found) < BATCH:
            more = self._consumer.consume(BATCH - len(found), GATHER_SECONDS)
            found = [*found, *more] if epoch == self._partitions.epoch else more
        return [message for message in found if not _failed(message)]

    def _leave(self, messages: list[Message]) -> None:
        self._left, self._left_epoch = messages, self._partitions.epoch

    def _global_news(self) -> bool:
        return any(
            self._partitions.applied(partition, topic) < self._tables.next_offset(topic)
            for topic in self._plan.global_inputs
            for partition in self._partitions.owned()
        )

    def _commit(self, batch: list[Message]) -> None:
        try:
            self._outbox.begin()
            self._contexts = {number: self._context(number) for number in self._partitions.owned()}
            done = self._work(batch, time.monotonic() + SLICE_SECONDS)
            for partition in self._partitions.owned():
                self._outbox.keep(partition, self._partitions.state(partition).batch)
            with self._meter.at_most(COMMIT_SECONDS):
                self._outbox.commit(self._offsets(batch, done), self._consumer.consumer_group_metadata())
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
        self._partitions.write_down(self._outbox.written)
        self._leave(batch[done:])
        for topic in self._plan.global_inputs:
            self._tables.forget(topic, min((self._partitions.applied(one, topic) for one in self._partitions.owned()), default=0))
        self._judge_source()

    def _context(self, partition: int) -> Context:
        return Context(partition, self._settings.kafka.partitions, self._partitions.state(partition), self._tables)

    def _offsets(self, batch: list[Message], done: int) -> list[TopicPartition]:
        """Where to go on. A transaction that handled no record names a position too: the group refuses a worker that was left behind."""
        if done:
            return _positions(batch[:done])
        return _positions(batch, first=True) if batch else self._partitions.positions()

    def _work(self, batch: Sequence[Message], until: float) -> int:
        """Apply the tables, then handle records until the time is over (at least one). Returns how many were handled."""
        if not self._apply_tables(until):
            return 0
        for number, message in enumerate(batch):
            if number and time.monotonic() > until:
                return number
            self._handle(message)
        return len(batch)

    def _apply_tables(self, until: float) -> bool:
        """Hand the news of the global inputs to every partition. False if the time was over before the end."""
        for topic in self._plan.global_inputs:
            news = self._tables.next_offset(topic)
            behind = {one: done for one in self._partitions.owned() if (done := self._partitions.applied(one, topic)) < news}
            for record in self._tables.news(topic, min(behind.values())) if behind else ():
                if time.monotonic() > until:
                    for partition, done in behind.items():
                        self._partitions.note_applied(partition, topic, max(done, record.offset))
                    return False
                self._apply_news(record, [partition for partition, done in behind.items() if done <= record.offset])
            for partition in behind:
                self._partitions.note_applied(partition, topic, news)
        return True

    def _apply_news(self, record: Record, partitions: list[int]) -> None:
        """Hand one record of a table to the partitions that it concerns; it is decoded once for all of them, if for any."""
        if self._sift is not None and record.event is None:
            partitions = [one for one in partitions if self._sift(record, self._contexts[one])]
        decoded = self._tables.decoded(record) if partitions else None
        if decoded is not None:
            for partition in partitions:
                self._apply(partition, decoded)

    def _apply(self, partition: int, record: Record) -> None:
        try:
            self._produce(partition, record)
        except Poison as error:
            self._partitions.state(partition).drop()
            self._meter.discarded("handle")
            log.error("table_record_not_applied", topic=record.topic, offset=record.offset, partition=partition, reason=error.reason)

    def _handle(self, message: Message) -> None:
        topic, partition = self._topics[message.topic() or ""], message.partition() or 0
        try:
            value = value_of(message)
            if self._glance and value is not None and self._glance(topic, value, self._contexts[partition].state):
                self._verdicts.append(False)
                return
            event = plain = None
            if value is None:
                value = b""
            elif self._plan.plain:
                plain = self._codec.read(topic, value)
            else:
                event = self._codec.decode(topic, value)
            offset, at = message.offset() or 0, recorded_at(message)
            self._produce(partition, Record(topic, partition, offset, at, key_of(message), event, value, plain))
        except (UndecodableError, Poison) as error:
            self._partitions.state(partition).drop()
            self._outbox.set_aside(message, topic, error)
            self._verdicts.append(True)
            self._meter.discarded("decode" if isinstance(error, UndecodableError) else "handle")
            self._meter.error(str(error))
            log.warning("record_set_aside", topic=topic, partition=partition, offset=message.offset(), reason=str(error))
        else:
            self._verdicts.append(False)

    def _produce(self, partition: int, record: Record) -> None:
        """Handle one record and send its outputs, all or none."""
        state = self._partitions.state(partition)
        try:
            outputs = [*self._step.handle(record, self._contexts[partition])]
        except (Poison, Backpressure, DriftlineError):
            raise
        except Exception as error:  # a step does no I/O: whatever it stumbles over is the record, or a bug that the fuse stops
            log.exception("step_stumbled", role=self._plan.role, topic=record.topic, partition=partition, offset=record.offset)
            raise Poison(f"{type(error).__name__}: {error}") from error
        if outputs or state.record:
            self._outbox.put(outputs, state.record)
            state.keep()
            self._emitted += len(outputs)

    def _judge_source(self) -> None:
        """Count what was committed, not what was tried; stop when most of it was bad."""
        self._meter.received(len(self._verdicts))
        self._meter.emitted(self._emitted)
        self._fuse.note_all(self._verdicts)
        self._verdicts.clear()
        self._emitted = 0
        if self._fuse.blown():
            raise FuseBlown(
                f"Most records that the {self._plan.role} read lately were bad; it stopped.",
                "See 'driftline dlq list', mend the source, start it again.",
            )

    def _abort(self, batch: list[Message]) -> None:
        self._outbox.abort()
        self._verdicts.clear()
        self._emitted = 0
        self._partitions.forget_batch()
        self._leave(batch)

    def _hold(self, seconds: float) -> None:
        """The next stage can't take more: fetch nothing, keep polling, go on later."""
        held = self._consumer.assignment()
        self._consumer.pause(held)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._consumer.poll(min(0.2, seconds))
            self._meter.beat()
        self._consumer.resume([one for one in self._consumer.assignment() if self._partitions.has(one.partition)])

    def _tell(self) -> None:
        if time.monotonic() < self._lag_due:
            return
        self._lag_due = time.monotonic() + 5
        lag = len(self._left)
        for position in self._consumer.position(self._consumer.assignment()):
            if position.offset >= 0:
                _, high = self._consumer.get_watermark_offsets(position, cached=True)
                lag += max(0, high - position.offset)
        self._meter.lag(lag)


def _positions(batch: Sequence[Message], first: bool = False) -> list[TopicPartition]:
    """Where to go on after this batch, or (`first`) where it began."""
    ordered = reversed(batch) if first else batch  # each partition comes in the order of its offsets: the last one said stands
    found = {(message.topic() or "", message.partition() or 0): message.offset() or 0 for message in ordered}
    return [TopicPartition(topic, number, offset if first else offset + 1) for (topic, number), offset in found.items()]


def _failed(message: Message) -> bool:
    """Whether it is no record but an error of the client, logged. Raises KafkaException for one that waiting does not mend."""
    if (error := message.error()) is None:
        return False
    if is_lasting(error):
        raise KafkaException(error)
    log.warning("consumer_error", reason=error.str())
    return True
