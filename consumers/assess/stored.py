"""Answers that are in `exchanges` already: from another life of this role, another machine, or an earlier state of a finding.

What was answered there is never asked, and so never paid, again. The topic itself is the memory: here is only where in it each good
answer stands, and the last of what it holds is read before a question is put.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from infra.core.settings import Settings
from infra.kafka.client import consumer_config, end_of, prefixed, value_of
from schemas.codec import Codec, UndecodableError
from schemas.events.findings import Finding, ModelExchange

log = structlog.get_logger()
TOPIC = "exchanges"
REMEMBERED = 200_000
"""Places of answers that are kept, some 100 bytes each; of older ones the question is put again."""
SECONDS = 30.0
LATELY = timedelta(hours=1)
"""What was asked before that weighs on no budget."""
Seen = Callable[[ModelExchange], None]


class StoredAnswers:
    """Reads the partitions of `exchanges` that belong to the findings in hand. One thread, one consumer without a group.

    `models` and `prompt` say whose answers count; `seen` is told once of each exchange of the hour before this process began.
    """

    def __init__(self, settings: Settings, codec: Codec, models: Iterable[str], prompt: str, seen: Seen = lambda _: None) -> None:
        self._codec, self._models, self._prompt, self._seen = codec, frozenset(models), prompt, seen
        self._topic, self._started = prefixed(settings, TOPIC), datetime.now(UTC)
        over = {"enable.partition.eof": True, "fetch.wait.max.ms": 20}
        self._consumer = Consumer(consumer_config(settings, "restore", **over))
        self._next: dict[int, int] = {}
        self._places: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._told: set[tuple[str, datetime]] = set()

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def answers(self, findings: Iterable[tuple[Finding, int]]) -> dict[str, ModelExchange]:
        """The stored answers to the questions of some findings, given with their partitions: by content hash.

        Raises KafkaException, and TimeoutError where the broker stops answering.
        """
        wanted = list(findings)
        for partition in sorted({number for _, number in wanted}):
            self._read_on(partition)
        found: dict[str, ModelExchange] = {}
        for finding, _ in wanted:
            place = self._places.get(_short(finding.review.content_hash))
            exchange = self._at(*place) if place is not None else None
            if exchange is not None and exchange.finding_id == finding.finding_id and self._counts(exchange):
                found[finding.review.content_hash] = exchange
        return found

    def _counts(self, exchange: ModelExchange) -> bool:
        return exchange.ok and exchange.prompt_hash == self._prompt and exchange.model in self._models

    def _read_on(self, partition: int) -> None:
        """Take in what was written since the last time."""
        at = TopicPartition(self._topic, partition, self._next.get(partition, 0))
        end = end_of(self._consumer, at, SECONDS)
        if at.offset < end:
            for message in self._from(partition, at.offset, end):
                self._take(message)

    def _from(self, partition: int, offset: int, end: int) -> Iterable[Message]:
        """The records of a partition from an offset to its end."""
        self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        while True:
            message = self._consumer.poll(SECONDS)
            if message is None:
                raise TimeoutError(f"{self._topic} [{partition}] could not be read on from {offset}")
            error = message.error()
            if error is None:
                self._next[partition] = (message.offset() or 0) + 1
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's own name
                self._next[partition] = max(self._next.get(partition, 0), message.offset() or 0)
                if (message.offset() or 0) >= end:
                    return
            else:
                log.warning("exchanges_not_read", reason=error.str())
            if self._next.get(partition, 0) >= end:
                return

    def _take(self, message: Message) -> None:
        exchange = self._decoded(message)
        if exchange is None:
            return
        if self._started - LATELY < exchange.asked_at < self._started and (exchange.content_hash, exchange.asked_at) not in self._told:
            self._told.add((exchange.content_hash, exchange.asked_at))  # an answer that is used again is written again
            self._seen(exchange)
        key = _short(exchange.content_hash)
        if self._counts(exchange):
            self._places[key] = (message.partition() or 0, message.offset() or 0)
            self._places.move_to_end(key)
            if len(self._places) > REMEMBERED:
                self._places.popitem(last=False)
        else:
            self._places.pop(key, None)

    def _at(self, partition: int, offset: int) -> ModelExchange | None:
        """The exchange at a place; None if compaction took it."""
        self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        message = self._consumer.poll(SECONDS)
        if message is None or message.error() is not None or message.offset() != offset:
            return None
        return self._decoded(message)

    def _decoded(self, message: Message) -> ModelExchange | None:
        value = value_of(message)
        if value is None:
            return None
        try:
            event = self._codec.decode(TOPIC, value)
        except UndecodableError as error:
            log.warning("undecodable_record", topic=TOPIC, offset=message.offset(), reason=str(error))
            return None
        return event if isinstance(event, ModelExchange) else None


def _short(content_hash: str) -> bytes:
    """A content hash in few bytes."""
    try:
        return bytes.fromhex(content_hash)
    except ValueError:
        return content_hash.encode()
