"""The built-in sink: rows into ClickHouse, and `watermark_parts`, which says up to when each topic's rows are complete."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DataError, Error, ProgrammingError
from clickhouse_connect.driver.insert import InsertContext

from consumers.archive.blocks import Block
from consumers.archive.progress import Progress
from infra.clickhouse.client import insert_arrow
from infra.core.errors import Backpressure, MissingPrerequisite, Poison
from infra.core.ports import Record
from schemas.rows import Row, rows_of
from schemas.topics import TOPICS

log = structlog.get_logger()
RETRY_SECONDS = 1.0
PARALLEL = 1  # inserts beside the one of the calling thread: more of them would keep the other lane waiting
KEPT = ("probes", "touches", "changes", "assets", "exposures", "findings", "runs", "agents", "rollups", "audit")
# The small tables that every worker reads whole, each for itself: no row is made of them, but a record of theirs that can't be
# decoded is set aside here, and so once. (The only readers of `campaigns` and of `pages` do it themselves.)
EXAMINED = tuple(topic.name for topic in TOPICS if topic.single and topic.events and topic.name not in ("campaigns", "pages"))

# ClickHouse's error codes. At fault is the installation: no table, column, database or right; a syntax that it does not know.
FAULTY = frozenset({16, 36, 47, 60, 62, 73, 81, 115, 164, 192, 193, 194, 497, 516})
# Overloaded or out of room for now: time-outs, too many queries, memory, disk, parts, Keeper, cancelled, unknown end of an insert.
BUSY = frozenset({74, 75, 76, 159, 160, 202, 209, 210, 241, 242, 243, 252, 319, 394, 439, 999})
NO_ROOM = ("NOT_ENOUGH_SPACE", "No space left on device")
MANY_PARTITIONS = "partitions for single INSERT"


class ClickHouseSink:
    """Writes one insert a table and batch. The tables dedupe on deterministic keys, so a batch that comes twice changes nothing."""

    name = "clickhouse"
    topics: tuple[str, ...]

    def __init__(self, connect: Callable[[], Client], progress: Progress, topics: tuple[str, ...] = (*KEPT, *EXAMINED)) -> None:
        self._connect, self._progress, self.topics = connect, progress, topics
        self._client: Client | None = None
        self._contexts: dict[str, InsertContext] = {}
        self._workers = ThreadPoolExecutor(PARALLEL, thread_name_prefix="insert")

    def write(self, records: Sequence[Record]) -> None:
        """Insert the rows of these records. Raises Backpressure while ClickHouse is away, Poison for what it refuses."""
        self.write_columns((), records)

    def write_columns(self, blocks: Sequence[Block], records: Sequence[Record]) -> None:
        """Insert these rows, and the rows of these records. Raises as `write` does."""
        tables: dict[str, list[Row]] = defaultdict(list)
        for record in records:
            if record.event is not None and record.topic in KEPT:
                for table, row in _rows(record):
                    tables[table].append(row)
        self._insert(tables, _joined(blocks))

    def idle(self) -> None:
        """Tell how far we are, if that has changed. Raises Backpressure."""
        marks = [mark for mark in self._progress.news() if mark.topic in KEPT]
        if marks:
            self._insert({"watermark_parts": [asdict(mark) for mark in marks]})
        self._progress.told()

    def _insert(self, tables: Mapping[str, list[Row]], blocks: Mapping[str, pa.Table] = MappingProxyType({})) -> None:
        """Insert into all these tables; when this returns or raises, no insert is running any more."""
        try:
            client = self._client = self._client or self._connect()
            inserts: list[Callable[[], object]] = [functools.partial(self._put, client, table, rows) for table, rows in tables.items()]
            inserts += [functools.partial(insert_arrow, client, table, rows) for table, rows in blocks.items()]
            running = [self._workers.submit(insert) for insert in inserts[1:]]
            try:
                for insert in inserts[:1]:
                    insert()
            finally:
                failures = [failure for one in running if (failure := one.exception()) is not None]
            for failure in failures:
                raise failure
        except Exception as error:
            self._contexts.clear()  # the table may have another shape by now
            verdict = judge(error)
            if isinstance(verdict, Backpressure):
                log.warning("clickhouse_away", reason=str(error)[:300])
                self._forget()
            if verdict is error:
                raise
            raise verdict from None

    def _put(self, client: Client, table: str, rows: list[Row]) -> None:
        columns = list(rows[0])
        context = self._contexts.get(table)
        if context is None or context.column_names != columns:
            context = self._contexts[table] = client.create_insert_context(table, columns, column_oriented=True)
        data: list[Sequence[Any]] = [[row[column] for row in rows] for column in columns]
        client.insert(data=data, context=context)

    def _forget(self) -> None:
        if self._client is not None:
            with suppress(Exception):
                self._client.close()
        self._client = None


def _joined(blocks: Sequence[Block]) -> dict[str, pa.Table]:
    """One table of rows a table in ClickHouse."""
    parts: dict[str, list[pa.Table]] = defaultdict(list)
    for block in blocks:
        if block.rows.num_rows:
            parts[block.table].append(block.rows)
    return {table: pa.concat_tables(rows).combine_chunks() for table, rows in parts.items()}


def _rows(record: Record) -> list[tuple[str, Row]]:
    try:
        return rows_of(record.event, record.recorded_at) if record.event is not None else []
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise Poison(f"no row can be made of it: {type(error).__name__}: {error}") from None


def judge(error: Exception) -> Exception:
    """What an error of an insert means: Backpressure (later), Poison (a row is bad), or the error itself (the installation is at fault)."""
    code = getattr(error, "code", None)
    if any(words in str(error) for words in NO_ROOM):
        return Backpressure(RETRY_SECONDS, "its disk is full; make room, and it goes on by itself")
    if isinstance(error, MissingPrerequisite | OSError) or (code in BUSY and MANY_PARTITIONS not in str(error)):
        return Backpressure(RETRY_SECONDS)
    if code in FAULTY or isinstance(error, MemoryError | ProgrammingError):
        return error
    if code is None and isinstance(error, Error) and not isinstance(error, DataError):
        return Backpressure(RETRY_SECONDS)  # no answer of ClickHouse's own: the network, or something between
    return Poison(f"ClickHouse refuses it: {str(error)[:1500]}")
