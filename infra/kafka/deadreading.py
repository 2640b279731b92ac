"""Reads the DLQs and replays them: what was set aside goes back to its topic, byte for byte, once."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.core.errors import BadInput, MissingPrerequisite
from infra.core.settings import Settings
from infra.kafka.client import consumer_config, end_of, key_of, prefixed, transactional_producer, unreachable, value_of
from infra.kafka.registry import codec_for
from infra.kafka.timestamps import recorded_at
from schemas.codec import UndecodableError
from schemas.topics import TOPICS, concrete_names

GROUP = "dlq-replay"
ASK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that was set aside. `reference` names it: `topic:partition:offset` in the DLQ."""

    reference: str
    topic: str
    source: str
    when: str
    error: str
    reason: str
    key: str
    value: bytes
    code_version: str


def dead_letters(settings: Settings, topic: str | None = None, limit: int = 1000) -> list[DeadLetter]:
    """The newest dead letters, or those of one topic, newest first.

    Raises BadInput for a topic without a DLQ, MissingPrerequisite if Kafka does not answer.
    """
    queues = {prefixed(settings, f"dlq.{name}"): name for name in _queues(settings, topic)}
    consumer = Consumer(consumer_config(settings, GROUP, **{"enable.partition.eof": True, "fetch.wait.max.ms": 20}))
    try:
        partitions = [TopicPartition(queue, number, 0) for queue in queues for number in _partitions(consumer, queue)]
        found = (_letter(queues[message.topic() or ""], message) for message in _to_the_end(settings, consumer, partitions))
        return heapq.nlargest(limit, found, key=lambda one: (one.when, one.reference))
    except KafkaException as error:
        raise unreachable(settings, error) from None
    finally:
        consumer.close()


class Policy(StrEnum):
    """What a replay does with the letters that no replay has dealt with yet."""

    ALL = "all"
    READABLE = "readable"
    DISCARD = "discard"


class Replayed(NamedTuple):
    """How many letters went back, and how many were passed over for good (they stay in the queue until its time is over)."""

    back: int
    passed: int


def replay(settings: Settings, topic: str, limit: int, policy: Policy = Policy.ALL) -> Replayed:
    """Deal with up to `limit` records of a DLQ: put them back on their topic, or pass them over.

    A group remembers how far, in the transaction that puts them back, so that none goes twice.
    Raises BadInput for a topic without a DLQ, MissingPrerequisite if Kafka does not answer.
    """
    _queues(settings, topic)
    queue = prefixed(settings, f"dlq.{topic}")
    consumer = Consumer(consumer_config(settings, f"{GROUP}.{topic}", **{"enable.partition.eof": True, "fetch.wait.max.ms": 20}))
    back = passed = 0
    fit = _fitting(settings, topic, policy)
    try:
        producer = transactional_producer(settings, f"{GROUP}.{topic}")
        wanted = [TopicPartition(queue, number) for number in _partitions(consumer, queue)]
        for start in consumer.committed(wanted, ASK_SECONDS):
            if back + passed < limit:
                messages = _next_letters(settings, consumer, start, limit - back - passed)
                fitting = [message for message in messages if fit(message)]
                _send_back(settings, consumer, producer, topic, messages, fitting)
                back, passed = back + len(fitting), passed + len(messages) - len(fitting)
    except KafkaException as error:
        raise unreachable(settings, error) from None
    finally:
        consumer.close()
    return Replayed(back, passed)


def _fitting(settings: Settings, topic: str, policy: Policy) -> Callable[[Message], bool]:
    """Which letters go back under a policy."""
    if policy is not Policy.READABLE:
        return lambda _: policy is Policy.ALL
    codec = codec_for(settings)

    def readable(message: Message) -> bool:
        try:
            codec.decode(topic, value_of(message) or b"")
        except UndecodableError:
            return False
        return True

    return readable


def _next_letters(settings: Settings, consumer: Consumer, start: TopicPartition, limit: int) -> list[Message]:
    low, _ = consumer.get_watermark_offsets(start, ASK_SECONDS)
    begin = TopicPartition(start.topic, start.partition, max(low, start.offset))
    messages: list[Message] = []
    for message in _to_the_end(settings, consumer, [begin]):
        messages.append(message)
        if len(messages) == limit:
            break
    return messages


def _send_back(
    settings: Settings, consumer: Consumer, producer: Producer, topic: str, messages: list[Message], fitting: list[Message]
) -> None:
    """Put the fitting ones back and remember that all were dealt with, in one transaction."""
    if not messages:
        return
    producer.begin_transaction()
    for message in fitting:
        producer.produce(prefixed(settings, topic), value_of(message), message.key(), message.partition() or 0)
    last = messages[-1]
    position = TopicPartition(last.topic() or "", last.partition() or 0, (last.offset() or 0) + 1)
    producer.send_offsets_to_transaction([position], consumer.consumer_group_metadata(), 30.0)
    producer.commit_transaction(30.0)


def _to_the_end(settings: Settings, consumer: Consumer, partitions: list[TopicPartition]) -> Iterator[Message]:
    """The records of these partitions as they stand now. The end is what the broker says it is: behind the last record may be markers."""
    ends = {(one.topic, one.partition): end_of(consumer, one, ASK_SECONDS) for one in partitions}
    waiting = set(ends)
    consumer.assign(partitions)
    while waiting:
        message = consumer.poll(ASK_SECONDS)
        if message is None:
            raise MissingPrerequisite(f"Kafka at {settings.bootstrap} stopped answering.", "Check 'driftline status'.")
        error, place = message.error(), (message.topic() or "", message.partition() or 0)
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF and (message.offset() or 0) >= ends[place]:  # noqa: SLF001  the library's own name
            waiting.discard(place)


def _partitions(consumer: Consumer, queue: str) -> list[int]:
    metadata = consumer.list_topics(queue, ASK_SECONDS).topics[queue]
    if metadata.error is not None:
        raise MissingPrerequisite(f"The topic {queue} does not exist.", "Run 'driftline topics apply'.")
    return sorted(metadata.partitions)


def _queues(settings: Settings, topic: str | None) -> list[str]:
    known = [name for row in TOPICS for name in concrete_names(row, settings.zones) if not name.startswith("state.")]
    if topic is None:
        return known
    if topic not in known:
        raise BadInput(f"There is no DLQ for '{topic}'.", f"Topics with one: {', '.join(known)}.")
    return [topic]


def _letter(topic: str, message: Message) -> DeadLetter:
    headers = {str(pair[0]): _text(pair[1]) for pair in message.headers() or []}
    return DeadLetter(
        reference=f"{topic}:{message.partition()}:{message.offset()}",
        topic=topic,
        source=f"{headers.get('source.topic', '')}:{headers.get('source.partition', '')}:{headers.get('source.offset', '')}",
        when=recorded_at(message).isoformat(timespec="milliseconds"),
        error=headers.get("error.class", ""),
        reason=headers.get("error.reason", ""),
        key=key_of(message),
        value=value_of(message) or b"",
        code_version=headers.get("code.version", ""),
    )


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
