"""The compacted topics that every worker reads whole: grants, inventory, intel, decisions, commands."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.core.errors import MissingPrerequisite
from infra.core.ports import KeysOf, Record, TableIndex
from infra.core.settings import Settings
from infra.kafka.client import consumer_config, key_of, patiently, prefixed, unreachable, value_of
from infra.kafka.compacttable import CompactTable
from infra.kafka.timestamps import recorded_at
from schemas.codec import Codec, UndecodableError
from schemas.events.base import Event

log = structlog.get_logger()
COMPACT = frozenset({"intel"})
"""Of these the table keeps the bytes and decodes what is asked for: 250,000 records as events would take gigabytes."""
HISTORIES = frozenset({"grants"})
"""Of these the table holds every record of the log, under `key|offset`: the last of a key may be forged, and another be believed."""
QUICK_MS, PATIENT_MS = 20, 10_000
"""How long a fetch waits for a record: hardly, while tables are read whole; long afterwards, since each empty answer costs."""


def applied_key(topic: str) -> str:
    """Where a partition's state keeps up to which offset of a global input it has applied."""
    return f"\0applied|{topic}"


@dataclass(slots=True)
class _Table:
    """Latest record and live event of each key; `log` holds every record from `log_start` on that some partition may not have applied.

    Of a table in `COMPACT` the records hold their bytes in `raw` and no event; `live` is made of them.
    """

    entries: dict[str, Record] = field(default_factory=dict)
    live: dict[str, Event] = field(default_factory=dict)
    log: list[Record] = field(default_factory=list)
    log_start: int = 0
    next_offset: int = 0
    indexes: dict[KeysOf, TableIndex] = field(default_factory=dict)

    def keep(self, record: Record) -> None:
        """Let a record be the latest of its key, and the indexes know."""
        before = self.entries.get(record.key)
        for index in self.indexes.values():
            index.change(before, record)
        self.entries[record.key] = record


class GlobalTables:
    """Reads single-partition topics from their beginning, each worker for itself, and keeps the latest record of every key.

    Bounded by the number of keys; a tombstone is kept as a record so that partitions that have not applied it yet still can.
    """

    def __init__(self, settings: Settings, topics: tuple[str, ...], codec: Codec, inputs: tuple[str, ...] = ()) -> None:
        self._settings, self._codec, self._inputs = settings, codec, inputs
        self._tables = {topic: _Table() for topic in topics}
        self._compact = {topic: CompactTable(topic, self._tables[topic].entries, codec) for topic in topics if topic in COMPACT}
        self._names = {prefixed(settings, topic): topic for topic in topics}
        self._consumer: Consumer | None = None
        self._asker: Consumer | None = None

    def load(self, timeout: float = 60.0) -> None:
        """Read every table to its end. Raises MissingPrerequisite if that takes too long."""
        if not self._names:
            return
        self._open(QUICK_MS)
        try:
            self._read_to_the_end(time.monotonic() + timeout)
        finally:
            self.close()
        self._open(PATIENT_MS)

    def _open(self, fetch_wait_ms: int) -> None:
        """Read on from where the tables are. The broker tells of the end of a topic only when it has waited for so long."""
        over = {"enable.partition.eof": True, "fetch.wait.max.ms": fetch_wait_ms}
        self._consumer = Consumer(consumer_config(self._settings, "tables", **over))
        self._consumer.assign([TopicPartition(name, 0, self._tables[topic].next_offset) for name, topic in self._names.items()])

    def _read_to_the_end(self, deadline: float) -> None:
        waiting = set(self._names)
        while waiting and self._consumer:
            if time.monotonic() > deadline:
                raise MissingPrerequisite(
                    f"The topics {sorted(waiting)} can't be read.", "Run 'driftline topics apply' and check the broker."
                )
            try:
                message = self._consumer.poll(0.5)
            except KafkaException as error:
                raise unreachable(self._settings, error) from None
            if message is not None and self._take(message) and message.topic():
                waiting.discard(message.topic() or "")

    def poll(self) -> bool:
        """Take in what has arrived, without waiting. True if a table changed."""
        changed = False
        while self._consumer and (messages := self._consumer.consume(500, 0)):
            for message in messages:
                changed = not self._take(message) or changed
        return changed

    def catch_up(self, topics: Iterable[str], seconds: float = 1.0) -> None:
        """Take in what was written to these tables before now: a grant counts for the target that is pushed right after it."""
        if self._consumer is None:
            return
        deadline = time.monotonic() + seconds
        for topic in topics:
            # Asked by a client that fetches nothing: on the reader's own connection the question would wait behind its long poll.
            if self._asker is None:
                self._asker = Consumer(consumer_config(self._settings, "tables"))
            asker, place = self._asker, TopicPartition(prefixed(self._settings, topic), 0)
            _, end = patiently(lambda: asker.get_watermark_offsets(place, 5.0, cached=False))  # noqa: B023  called at once
            while self._tables[topic].next_offset < end and time.monotonic() < deadline:
                for message in self._consumer.consume(500, 0.02):
                    self._take(message)

    def table(self, topic: str) -> Mapping[str, Event]:
        """The latest event of each key."""
        return self._compact.get(topic) or self._tables[topic].live

    def index(self, topic: str, keys_of: KeysOf) -> Mapping[str, Set[str]]:
        """Keys of the live records by what `keys_of` makes of each; made when first asked for."""
        table = self._tables[topic]
        index = table.indexes.get(keys_of)
        if index is None:
            index = table.indexes[keys_of] = TableIndex(keys_of)
            for record in table.entries.values():
                index.change(None, record)
        return index.entries

    def next_offset(self, topic: str) -> int:
        """The offset after the last record that was taken in."""
        return self._tables[topic].next_offset

    def since(self, topic: str, offset: int) -> Iterator[Record]:
        """What a partition that has applied all before `offset` has not applied yet, in the order of the log.

        Every record that came while this worker ran; of what is older, the latest of each key.
        """
        for record in self.news(topic, offset):
            decoded = self.decoded(record)
            if decoded is not None:
                yield decoded

    def decoded(self, record: Record) -> Record | None:
        """A record of `news` with its event; None for one that can't be decoded, which is logged."""
        compact = self._compact.get(record.topic)
        if compact is None or not record.raw:
            return record
        event = compact.event_of(record)
        return None if event is None else record._replace(event=event)

    def news(self, topic: str, offset: int) -> Iterator[Record]:
        """As `since`; of a table in `COMPACT` as bytes, in `raw`."""
        table = self._tables[topic]
        if offset < table.log_start:
            older = [one for one in table.entries.values() if offset <= one.offset < table.log_start]
            yield from sorted(older, key=lambda one: one.offset)
        yield from table.log[bisect_left(table.log, offset, key=_offset) :]

    def forget(self, topic: str, applied: int) -> None:
        """Every owned partition has applied what lies below this offset: keep only the latest of each key of it."""
        table = self._tables[topic]
        if applied > table.log_start:
            del table.log[: bisect_left(table.log, applied, key=_offset)]
            table.log_start = applied

    def close(self) -> None:
        """Close the consumers."""
        for one in (self._consumer, self._asker):
            if one is not None:
                one.close()
        self._consumer = self._asker = None

    def _take(self, message: Message) -> bool:
        """Take in one message; True if it says that the end of its topic is reached."""
        error = message.error()
        topic = self._names[message.topic() or ""]
        table, key, offset = self._tables[topic], key_of(message), message.offset() or 0
        if error is not None:
            ended = error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001  the library's own name for it
            table.next_offset = max(table.next_offset, offset) if ended else table.next_offset  # behind transaction markers
            return ended
        table.next_offset = offset + 1
        value = value_of(message)
        if topic in self._compact:
            self._keep(table, topic, Record(topic, 0, offset, recorded_at(message), key, None, value or b""))
            return False
        try:
            event = None if value is None else self._codec.decode(topic, value)
        except UndecodableError as reason:
            log.error("undecodable_table_record", topic=topic, offset=offset, key=key, reason=str(reason))
            return False
        self._keep(table, topic, Record(topic, 0, offset, recorded_at(message), key, event))
        if topic in HISTORIES:
            if event is not None:
                table.live[f"{key}|{offset}"] = event
        elif event is None:
            table.live.pop(key, None)
        else:
            table.live[key] = event
        return False

    def _keep(self, table: _Table, topic: str, record: Record) -> None:
        kept = self._compact[topic].todays(record) if record.raw else record
        if kept is None:
            return
        table.keep(kept)
        if topic in self._inputs:
            table.log.append(kept)


def _offset(record: Record) -> int:
    return record.offset
