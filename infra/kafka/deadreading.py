"""Reads the DLQs and replays them: what was set aside goes back to its topic, byte for byte, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from infra.core.errors import BadInput
from infra.core.settings import Settings
from infra.kafka.client import consumer_config, key_of, prefixed, read_whole, transactional_producer, value_of
from infra.kafka.timestamps import recorded_at
from schemas.topics import TOPICS, concrete_names

GROUP = "dlq-replay"


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


def dead_letters(settings: Settings, topic: str | None = None) -> Iterator[DeadLetter]:
    """Every dead letter, or those of one topic. Raises BadInput for a topic without a DLQ."""
    for name in _queues(settings, topic):
        found: list[Message] = []
        read_whole(settings, f"dlq.{name}", found.append)
        yield from (_letter(name, message) for message in found)


def replay(settings: Settings, topic: str, limit: int) -> int:
    """Put up to `limit` records of a DLQ back on their topic; a group remembers how far, so that none goes twice. Returns how many."""
    _queues(settings, topic)
    queue = prefixed(settings, f"dlq.{topic}")
    consumer = Consumer(consumer_config(settings, f"{GROUP}.{topic}"))
    producer = transactional_producer(settings, f"{GROUP}.{topic}")
    try:
        numbers = consumer.list_topics(queue, 15.0).topics[queue].partitions
        committed = consumer.committed([TopicPartition(queue, number) for number in numbers], 15.0)
        count = 0
        for start in committed:
            count += _replay_partition(settings, consumer, producer, start, topic, limit - count)
    finally:
        consumer.close()
    return count


def _replay_partition(settings: Settings, consumer: Consumer, producer: Producer, start: TopicPartition, topic: str, limit: int) -> int:
    low, high = consumer.get_watermark_offsets(start, 15.0)
    begin = max(low, start.offset)
    if begin >= high or limit <= 0:
        return 0
    consumer.assign([TopicPartition(start.topic, start.partition, begin)])
    messages: list[Message] = []
    position = begin
    while position < high and len(messages) < limit:
        message = consumer.poll(5.0)
        if message is None:
            break
        if message.error() is None:
            messages.append(message)
            position = (message.offset() or 0) + 1
    if not messages:
        return 0
    producer.begin_transaction()
    for message in messages:
        producer.produce(prefixed(settings, topic), value_of(message), message.key(), message.partition() or 0)
    producer.send_offsets_to_transaction([TopicPartition(start.topic, start.partition, position)], consumer.consumer_group_metadata(), 30.0)
    producer.commit_transaction(30.0)
    return len(messages)


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
