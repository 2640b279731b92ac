"""A global table that keeps the bytes of its records and decodes one when it is asked for: what is asked for is a small part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import structlog

from infra.core.ports import Record
from schemas.codec import Codec, UndecodableError
from schemas.events.base import Event
from schemas.intel_head import FOUND, read_head

log = structlog.get_logger()
DECODED = 4096
"""So many events are kept decoded: most networks' services are affected by fewer vulnerabilities."""


class CompactTable(Mapping[str, Event]):
    """The latest event of each key, over `records`, whose tombstones have empty `raw`."""

    def __init__(self, topic: str, records: Mapping[str, Record], codec: Codec) -> None:
        self._topic, self._records, self._codec = topic, records, codec
        self._header = codec.header(topic)
        self._decoded: dict[str, tuple[int, Event]] = {}

    def __getitem__(self, key: str) -> Event:
        record = self._records[key]
        event = self.event_of(record) if record.raw else None
        if event is None:
            raise KeyError(key)
        return event

    def __iter__(self) -> Iterator[str]:
        return (key for key, record in self._records.items() if record.raw)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True  # as a table it is there, whatever is in it; to count it would take longer than what asks

    def event_of(self, record: Record) -> Event | None:
        """The event of a record; None, logged, if it can't be decoded."""
        held = self._decoded.get(record.key)
        if held is not None and held[0] == record.offset:
            return held[1]
        try:
            event = self._codec.decode(self._topic, record.raw)
        except UndecodableError as reason:
            log.error("undecodable_table_record", topic=self._topic, offset=record.offset, key=record.key, reason=str(reason))
            return None
        if len(self._decoded) >= DECODED:
            del self._decoded[next(iter(self._decoded))]  # the one that came first
        self._decoded[record.key] = record.offset, event
        return event

    def todays(self, record: Record) -> Record | None:
        """The record as today's schema writes it, so that its head can be read; None, logged, if it can't be decoded.

        Beyond the head it is not looked at. One that can't be read so far never replaces what stands.
        """
        if read_head(record.raw, self._header, FOUND) is not None:
            return record
        event = self.event_of(record)
        return None if event is None else record._replace(raw=self._codec.encode(self._topic, event))
