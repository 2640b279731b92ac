"""What one transaction of the loop writes: outputs, dead letters, the changelog, and the consumed offsets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from infra.core.errors import Poison
from infra.core.ports import Emit, StepPlan
from infra.core.settings import Settings
from infra.kafka.client import MOST_VALUE, abort, insist, prefixed, transactional_producer
from infra.kafka.deadletters import dead_letter
from schemas.codec import Codec
from schemas.ids import partition_of
from schemas.topics import topic_named

_partition_of = functools.lru_cache(maxsize=8192)(partition_of)  # subnets come again and again


class Outbox:
    """The producer of one worker. `written` tells, after a commit, the changelog offset that each partition's state stands for."""

    def __init__(self, settings: Settings, plan: StepPlan, codec: Codec) -> None:
        self._settings, self._codec, self._prefix = settings, codec, settings.kafka.prefix
        self._changelog = prefixed(settings, plan.changelog) if plan.changelog else None
        self._role = plan.role
        self._producer: Producer = transactional_producer(settings, plan.role)
        self.written: dict[int, int] = {}

    def begin(self) -> None:
        """Open a transaction."""
        self._producer.begin_transaction()

    def put(self, outputs: Sequence[Emit], state: Mapping[str, bytes | None]) -> None:
        """Send the outputs of one record, all or none. Raises Poison if one of them, or of its state, is larger than a record may be."""
        values = [one.raw if one.event is None else self._codec.encode(one.topic, one.event) for one in outputs]
        for value in values:
            _check_size(value)
        for value in state.values():
            _check_size(value)
        for one, value in zip(outputs, values, strict=True):
            self._send(self._prefix + one.topic, value, one.key, self._where(one) if one.partition is None else one.partition)

    def set_aside(self, message: Message, topic: str, error: Exception) -> None:
        """Send a record to its DLQ."""
        dead_letter(self._producer, self._settings, message, topic, error)

    def keep(self, partition: int, changes: Mapping[str, bytes | None]) -> None:
        """Send a partition's state changes to the changelog. They arrive in this order: the last one's offset stands for all."""
        if self._changelog is not None and changes:
            *before, (key, value) = changes.items()
            for other, content in before:
                self._send(self._changelog, content, other, partition)
            self._send(self._changelog, value, key, partition, self._noted)

    def commit(self, offsets: Sequence[TopicPartition], group: object) -> None:
        """Commit with these consumed offsets. Every record is at the broker before the group is asked whether we still own them."""
        self._producer.flush(30.0)
        if offsets:
            insist(lambda: self._producer.send_offsets_to_transaction(list(offsets), group, 10.0))
        insist(lambda: self._producer.commit_transaction(10.0))

    def abort(self) -> None:
        """Nothing of the open transaction happened."""
        self._producer = abort(self._producer, self._settings, self._role)
        self.written.clear()

    def _where(self, emit: Emit) -> int:
        return _partition_of(emit.route or emit.key, topic_named(emit.topic).partitions(self._settings.kafka.partitions))

    def _send(
        self, topic: str, value: bytes | None, key: str, partition: int, told: Callable[[KafkaError | None, Message], None] | None = None
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key.encode(), partition, on_delivery=told)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _noted(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            partition = message.partition() or 0
            self.written[partition] = max(self.written.get(partition, 0), (message.offset() or 0) + 1)


def _check_size(value: bytes | None) -> None:
    if value is not None and len(value) > MOST_VALUE:
        raise Poison(f"what comes of it has {len(value)} bytes, more than a record may have")
