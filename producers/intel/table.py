"""The topic `intel` as one syncs it: read whole as bytes, changed in memory, written in one transaction.

One writer at a time: opening it bars an earlier writer that is still at work, whose transaction then fails as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.core.errors import DriftlineError
from infra.core.settings import Settings
from infra.kafka.client import insist, key_of, prefixed, read_whole, transactional_producer, unreachable, value_of
from producers.intel.merging import lists, rescored, said_at, taken_in
from producers.intel.statements import Fields
from schemas.codec import Codec, UndecodableError
from schemas.intel_head import CHANGING, LISTED, Head, read_head, with_head
from schemas.plain import Plain

FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)  # noqa: SLF001  the library's own name
WRITE_SECONDS = 90
"""Longest transaction: 300,000 records take a tenth of it. A writer that dies holds back readers of `intel`, no others, for so long."""


class IntelTable:
    """Latest record of each CVE, as the bytes of the topic: 250,000 take some 250 MB."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        """Become the one writer, and read the topic. Raises DriftlineError if Kafka or the topic is not there."""
        self._settings, self._codec, self._header = settings, codec, codec.header("intel")
        self._producer: Producer = transactional_producer(settings.model_copy(update={"slot": 0}), "intel", WRITE_SECONDS * 1000)
        self._held: dict[str, bytes | None] = {}
        self._changed: set[str] = set()
        self.next_offset = 0
        read_whole(settings, "intel", self._take)

    def _take(self, message: Message) -> None:
        key, value = key_of(message), value_of(message)
        self.next_offset = (message.offset() or 0) + 1
        if value is None:
            self._held.pop(key, None)
        else:
            self._held[key] = value

    def get(self, cve: str) -> Fields | None:
        """The record of a CVE. One that can't be read counts as none, and is written over."""
        value = self._held.get(cve)
        if value is None:
            return None
        try:
            return dict(self._codec.read("intel", value).fields)
        except UndecodableError:
            return None

    def put(self, cve: str, record: Mapping[str, Any] | None) -> None:
        """Change a record; None: a tombstone."""
        self._held[cve] = None if record is None else self._codec.encode("intel", Plain("IntelRecord", record))
        self._changed.add(cve)

    def listed(self, feed: str, as_of: int) -> tuple[set[str], int]:
        """The CVEs that a snapshot feed lists now, and the latest time of its statements if that is after `as_of`, else 0."""
        found, latest = set(), 0
        for cve in list(self._held):
            head = self._head(cve, LISTED)
            record = head.fields if head is not None else self.get(cve)
            if record is not None and lists(record, feed):
                found.add(cve)
                if record["as_of"] > as_of:  # of any feed: is it this one's?
                    whole = self.get(cve)
                    latest = max(latest, said_at(whole, feed) if whole is not None else 0)
        return found, latest if latest > as_of else 0

    def rescore(self, statement: Fields) -> bool:
        """Take in an EPSS score; True if it changed something."""
        cve = statement["cve"]
        value, head = self._held.get(cve), self._head(cve, CHANGING)
        if value is None or head is None:
            before = self.get(cve)
            after = taken_in(before, statement)
            if after is not before:
                self.put(cve, after)
            return after is not before
        fields = rescored(head.fields, statement)
        if fields is not None:
            self._held[cve] = with_head(value, head, fields)
            self._changed.add(cve)
        return fields is not None

    def _head(self, cve: str, last: str) -> Head | None:
        value = self._held.get(cve)
        return None if value is None else read_head(value, self._header, last)

    def write(self, each: Callable[[], None] = lambda: None) -> int:
        """Write what was changed, all or nothing. Returns the number of records. Raises DriftlineError if Kafka does not take it."""
        if not self._changed:
            return 0
        name = prefixed(self._settings, "intel")
        try:
            self._producer.begin_transaction()
            for cve in sorted(self._changed):
                self._send(name, cve)
                each()
            self._producer.flush(60.0)
            insist(lambda: self._producer.commit_transaction(30.0))
        except KafkaException as error:
            if error.args[0].code() in FENCED:
                raise DriftlineError("Another 'driftline intel sync' took over; this one wrote nothing.", "Let one of them run.") from None
            raise unreachable(self._settings, error) from None
        count = len(self._changed)
        self._changed.clear()
        return count

    def _send(self, name: str, cve: str) -> None:
        while True:
            try:
                self._producer.produce(name, self._held[cve], cve.encode(), 0)
                return
            except BufferError:
                self._producer.poll(0.1)
