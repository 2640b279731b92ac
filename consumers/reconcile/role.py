"""Wires the reconciler: reads the archived topics and their DLQs for itself, and compares every minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event as Flag
from typing import cast

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumers.reconcile.ledger import TABLES, Ledger, Verdict, judge, summary
from consumers.reconcile.tables import complete_to, standing
from infra.clickhouse.client import connect
from infra.core.errors import MissingPrerequisite
from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.core.telemetry import TELEMETRY, Meter
from infra.kafka.client import consumer_config, is_lasting, patiently, prefixed, unreachable, value_of
from infra.kafka.registry import codec_for
from infra.kafka.timestamps import recorded_at
from schemas.codec import Codec
from schemas.rows import rows_of

log = structlog.get_logger()
ROLE = "reconciler"
ROUND_SECONDS = 60.0
WINDOW_MS = 15 * 60_000
MOST_ROWS = 500_000  # of each of the ten topics; some 100 MB for each that has so many
CLOCKS_AGREE_MS = 2000
BATCH = 2000


class Reconciler:
    """Reads and compares. `round` may be called at any time; `verdicts` are those of the last one."""

    def __init__(self, settings: Settings, codec: Codec, client: Callable[[], Client], started: int) -> None:
        self._codec, self._connect, self._started = codec, client, started
        self._client: Client | None = None
        self._topics = {prefixed(settings, topic): topic for topic in TABLES}
        self._letters = {prefixed(settings, f"dlq.{topic}"): topic for topic in TABLES}
        self.ledger = Ledger(WINDOW_MS, MOST_ROWS)
        self.verdicts: list[Verdict] = []
        self._meter = Meter(ROLE)
        self._read_to: dict[tuple[str, int], int] = {}
        self._at_end: set[tuple[str, int]] = set()
        over = {"enable.partition.eof": True, "queued.max.messages.kbytes": 4096}
        self._consumer = Consumer(consumer_config(settings, ROLE, **over))
        self._place()

    def _place(self) -> None:
        """Read every partition from the time of the start on: alone, so that nobody else's rebalance or commit matters."""
        wanted = []
        known = patiently(lambda: self._consumer.list_topics(timeout=10.0)).topics
        for name in (*self._topics, *self._letters):
            if name not in known:
                raise MissingPrerequisite(f"The topic {name} does not exist.", "Run 'driftline topics apply'.")
            wanted += [TopicPartition(name, number, self._started) for number in known[name].partitions]
        # Where nothing came since, it begins at the end as it was before it asked: what is appended meanwhile is not left out.
        ends = patiently(lambda: [self._consumer.get_watermark_offsets(one, 10.0)[1] for one in wanted])
        begins = patiently(lambda: self._consumer.offsets_for_times(wanted, 10.0))
        for one, end in zip(begins, ends, strict=True):
            one.offset = one.offset if one.offset >= 0 else end
        self._consumer.assign(begins)
        self._read_to = {(one.topic, one.partition): 0 for one in begins}

    def read(self, seconds: float) -> None:
        """Take in what comes within so many seconds."""
        first = self._consumer.poll(seconds)
        found = [first, *self._consumer.consume(BATCH, 0.0)] if first is not None else []
        now = round(time.time() * 1000)
        for message in found:
            self._take(message)
        for place in self._at_end if len(found) <= BATCH else ():  # else more may wait in the client
            self._read_to[place] = max(self._read_to[place], now - CLOCKS_AGREE_MS - round(1000 * seconds))
        self._meter.beat()

    def _take(self, message: Message) -> None:
        name, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's own name for it
                self._at_end.add((name, partition))
            elif is_lasting(error):
                raise KafkaException(error)
            else:
                log.warning("consumer_error", reason=error.str())
            return
        at = recorded_at(message)
        ms = round(at.timestamp() * 1000)
        self._at_end.discard((name, partition))
        self._read_to[name, partition] = max(self._read_to[name, partition], ms)
        if name in self._letters:
            self._take_letter(self._letters[name], message, ms)
            return
        self._meter.received()
        place = (self._topics[name], partition, offset)
        try:
            value = value_of(message)
            rows = [] if value is None else rows_of(self._codec.decode(place[0], value), at)
            self.ledger.note(place, ms, rows)
            self._meter.emitted(len(rows))
        except (ValueError, TypeError, KeyError, ArithmeticError):
            self.ledger.note(place, ms, None)  # not decodable, or no row can be made of it: the archiver sets it aside too

    def _take_letter(self, topic: str, message: Message, ms: int) -> None:
        headers = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
        try:
            place = (topic, int(headers["source.partition"]), int(headers["source.offset"]))
        except (KeyError, ValueError, TypeError):
            log.warning("letter_without_source", topic=message.topic(), offset=message.offset())
        else:
            self.ledger.note_letter(place, ms)

    def round(self) -> None:
        """Compare once. Raises ClickHouseError and MissingPrerequisite while ClickHouse is away."""
        self.ledger.forget(round(time.time() * 1000))
        self._client = self._client or self._connect()
        written = complete_to(self._client)
        found: list[Verdict] = []
        for topic, tables in TABLES.items():
            first = self.ledger.begin(topic, self._started)
            last = min(written.get(topic, 0), self._known_to(topic))
            missing = self.ledger.letters_missing(topic, last)
            found.append(Verdict(f"dlq.{topic}", missing, loss=missing))
            for table in tables:
                if first < last:
                    now = standing(self._client, table, first, last)
                    found.append(judge(table, self.ledger.due(table, topic, first, last), now.there, now.since, now.copies))
        self.verdicts = found
        self._tell()

    def _known_to(self, topic: str) -> int:
        """Up to when this topic and its DLQ are read."""
        return min(to for (name, _), to in self._read_to.items() if topic in (self._topics.get(name), self._letters.get(name)))

    def _tell(self) -> None:
        for one in self.verdicts:
            for kind in ("loss", "doubles", "unknown"):
                TELEMETRY.reconciled.labels(one.table, kind).set(getattr(one, kind))
        for (topic, partition), totals in self.ledger.totals.items():
            for kind in ("next_offset", "records", "rows"):
                TELEMETRY.counted.labels(topic, str(partition), kind).set(getattr(totals, kind))
        said = "; ".join(summary(self.verdicts))
        if said:
            log.error("not_reconciled", tables=said)
            self._meter.error(said)

    def forget_client(self) -> None:
        """After an error: connect anew next time."""
        if self._client is not None:
            with suppress(Exception):  # what is broken need not close well
                self._client.close()
        self._client = None

    def fail(self, reason: str) -> None:
        """Say that it could not compare."""
        self.forget_client()
        log.warning("not_compared", reason=reason)
        self._meter.error(f"not compared: {reason}")

    def close(self) -> None:
        """Let go of Kafka and ClickHouse."""
        self._consumer.close()
        self.forget_client()


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set. Raises MissingPrerequisite when Kafka can't be used."""
    try:
        reconciler = Reconciler(settings, codec_for(settings), lambda: connect(settings), round(time.time() * 1000) - WINDOW_MS)
    except KafkaException as error:
        raise unreachable(settings, error) from None
    ready()
    due = time.monotonic() + ROUND_SECONDS
    try:
        while not stop.is_set():
            reconciler.read(0.5)
            if time.monotonic() >= due:
                due = time.monotonic() + ROUND_SECONDS
                try:
                    reconciler.round()
                except (ClickHouseError, MissingPrerequisite, OSError) as error:
                    reconciler.fail(str(error)[:300])
    finally:
        reconciler.close()
