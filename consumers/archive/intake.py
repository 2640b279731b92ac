"""Gathers records into batches: at once when few come, in large ones under load."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumers.archive.progress import Place
from infra.core.settings import ArchiverSettings
from infra.kafka.client import is_lasting

log = structlog.get_logger()
WAIT_SECONDS = 0.5
GATHER_SECONDS = 0.003
LOOK_SECONDS = 0.005
# In columns a batch takes some five times its bytes. Large ones leave ClickHouse less to merge: a third of its processor time.
CHUNK_RECORDS, BATCH_BYTES = 1000, 16 << 20


@dataclass(slots=True)
class Pace:
    """How long to gather: a moment for a lone record; under load `rests` times as long as the last write took, `longest` at most.

    An insert costs ClickHouse some 10 ms of processor time however small it is, so that few and large ones leave more for the rest.
    """

    longest: float
    rests: float = 1.0
    _ended: float = 0.0
    _took: float = 0.0

    def wrote(self, begun: float, ended: float) -> None:
        """A write took from `begun` to `ended` (monotonic seconds)."""
        self._ended, self._took = ended, ended - begun

    def gather(self, now: float) -> float:
        """Seconds to wait for more records."""
        return max(GATHER_SECONDS, min(self.rests * self._took, self.longest) - (now - self._ended))


@dataclass(slots=True)
class Batch:
    """Messages, contiguous in every partition, and the ends of partitions that were reached behind them."""

    messages: list[Message] = field(default_factory=list)
    ends: dict[Place, int] = field(default_factory=dict)
    size: int = 0


class Intake:
    """A consumer's records in batches. `topics` are the names without prefix by the names on the cluster."""

    def __init__(self, consumer: Consumer, topics: Mapping[str, str], settings: ArchiverSettings, rests: float = 1.0) -> None:
        self._consumer, self._topics, self._most = consumer, topics, settings.batch_rows
        self.pace = Pace(settings.flush_ms / 1000, rests)
        self._early: list[Message] = []
        self._paused = False

    def gather(self, writing: Callable[[], bool] = lambda: False) -> Batch:
        """Wait for the first record, half a second at most. Raises KafkaException when Kafka refuses.

        While a write runs (`writing`): take in what comes until that has ended, or the batch is full.
        """
        batch = self._resumed(Batch())
        if not batch.messages and not writing():
            first = self._consumer.poll(WAIT_SECONDS)
            self._sort([first] if first is not None else [], batch)
        while writing() and not self.full(batch):
            self._take(batch, LOOK_SECONDS)
        return batch

    def fill(self, batch: Batch) -> None:
        """Add to a batch what comes for as long as `pace` says. Raises KafkaException when Kafka refuses."""
        self._resumed(batch)
        now = time.monotonic()
        until = now + self.pace.gather(now)
        while batch.messages and not self.full(batch) and now < until:
            self._take(batch, until - now)
            now = time.monotonic()

    def full(self, batch: Batch) -> bool:
        """Whether a batch should take no more."""
        return len(batch.messages) >= self._most or batch.size >= BATCH_BYTES

    def breathe(self, seconds: float) -> None:
        """Stay in the group, taking in nothing until the next `gather` or `fill`.

        A rebalance may bring partitions that are not paused yet: a record of theirs waits, and goes before what comes after it.
        """
        self._consumer.pause(self._consumer.assignment())
        self._paused = True
        message = self._consumer.poll(seconds)
        if message is not None:
            self._early.append(message)

    def place(self, one: Message | TopicPartition) -> Place:
        """The topic, without prefix, and partition."""
        if isinstance(one, Message):
            return self._topics[one.topic() or ""], one.partition() or 0
        return self._topics[one.topic], one.partition

    def _resumed(self, batch: Batch) -> Batch:
        """The batch with what `breathe` was given, so that no later record of a partition is committed before it. All flow again."""
        early, self._early = self._early, []
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False
        self._sort(early, batch)
        return batch

    def _take(self, batch: Batch, seconds: float) -> None:
        self._sort(self._consumer.consume(min(CHUNK_RECORDS, self._most - len(batch.messages)), seconds), batch)

    def _sort(self, found: Sequence[Message], batch: Batch) -> None:
        for message in found:
            error = message.error()
            if error is None:
                batch.messages.append(message)
                batch.size += len(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's own name for it
                batch.ends[self.place(message)] = message.offset() or 0
            elif is_lasting(error):
                raise KafkaException(error)
            else:
                log.warning("consumer_error", reason=error.str())
