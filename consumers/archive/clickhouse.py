"""The built-in sink: rows into ClickHouse, and `watermark_parts`, which says up to when each topic's rows are complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, Error, OperationalError

from infra.core.errors import Backpressure, MissingPrerequisite
from infra.core.ports import Record
from schemas.rows import Row, rows_of

log = structlog.get_logger()
RETRY_SECONDS = 1.0
TOPICS = ("probes", "changes", "assets", "exposures", "findings", "runs", "agents", "rollups", "audit")
Positions = Callable[[], dict[tuple[str, int], tuple[int, int]]]


class ClickHouseSink:
    """Writes one insert a table and batch. The tables dedupe on deterministic keys, so a batch that comes twice changes nothing."""

    name = "clickhouse"
    topics: tuple[str, ...] = TOPICS

    def __init__(self, connect: Callable[[], Client], positions: Positions) -> None:
        self._connect, self._positions = connect, positions
        self._client: Client | None = None

    def write(self, records: Sequence[Record]) -> None:
        """Insert the rows of these records and move the watermarks. Raises Backpressure while ClickHouse is away."""
        tables: dict[str, list[Row]] = defaultdict(list)
        marks: dict[tuple[str, int], Record] = {}
        for record in records:
            marks[record.topic, record.partition] = record
            if record.event is not None:
                for table, row in rows_of(record.event, record.recorded_at):
                    tables[table].append(row)
        tables["watermark_parts"] = [
            {"topic": topic, "partition": number, "next_offset": record.offset + 1, "complete_to": record.recorded_at}
            for (topic, number), record in marks.items()
        ]
        self._insert(tables)

    def idle(self) -> None:
        """Nothing came: what has been read to its end is complete up to now."""
        now = datetime.now(UTC)
        rows = [
            {"topic": topic, "partition": number, "next_offset": offset, "complete_to": now}
            for (topic, number), (offset, end) in self._positions().items()
            if 0 <= end <= offset
        ]
        if rows:
            self._insert({"watermark_parts": rows})

    def _insert(self, tables: dict[str, list[Row]]) -> None:
        try:
            if self._client is None:
                self._client = self._connect()
            for table, rows in tables.items():
                columns = list(rows[0])
                data: list[Sequence[Any]] = [[row[column] for row in rows] for column in columns]
                self._client.insert(table, data, column_names=columns, column_oriented=True)
        except (Error, OSError, MissingPrerequisite) as error:
            if isinstance(error, DatabaseError) and not isinstance(error, OperationalError):
                raise  # ClickHouse understood and refused: a fault of ours, not of the moment
            log.warning("clickhouse_away", reason=str(error)[:300])
            self._client = None
            raise Backpressure(RETRY_SECONDS) from None
