"""ClickHouse in memory, as far as the archiver can tell the difference: inserts that may fail, hang, or be done and not be told.

Modelled: rows are seen when an insert returns; a table keeps copies, and a reader with FINAL sees one row of each key, that of the highest
version, else the last; what a column can't hold is refused and nothing written. An insert that fails may still be done, in part, or later.
Not modelled: merges, types in full, SQL. `tests/integration/test_store_conformance.py` holds it against the real engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, OperationalError

from tests.simulation.world import World

Row = dict[str, Any]
KEYS: Mapping[str, tuple[tuple[str, ...], str | None]] = {
    "observations": (("zone", "address", "transport", "port", "observation_id"), None),
    "changes": (("zone", "address", "change_id"), None),
    "findings": (("zone", "finding_id"), "revision"),
    "watermark_parts": (("topic", "partition"), "complete_to"),
}
"""Of each table: what its rows are sorted by, and its version."""
MOST = {"attempt": (1 << 32) - 1, "port": (1 << 16) - 1}
MAPS = ("facts",)
UNKNOWN_TABLE, TOO_MANY_QUERIES = 60, 202
LATE_SECONDS = (0.01, 0.5, 6.0)


class SimStore:
    """The tables, which live on while clients come and go. `noticed` is told of each insert before its rows are there."""

    def __init__(self, noticed: Callable[[str, Sequence[Row]], None] = lambda table, rows: None) -> None:
        self.tables: dict[str, list[Row]] = {table: [] for table in KEYS}
        self._noticed = noticed

    def take(self, table: str, rows: Sequence[Row]) -> None:
        """Write rows."""
        self._noticed(table, rows)
        self.tables[table] += rows

    def final(self, table: str) -> list[Row]:
        """What a reader with FINAL sees."""
        columns, version = KEYS[table]
        found: dict[tuple[Any, ...], Row] = {}
        for row in self.tables[table]:
            key = tuple(row[name] for name in columns)
            if key not in found or version is None or row[version] >= found[key][version]:
                found[key] = row
        return list(found.values())


class SimClient:
    """clickhouse-connect's client as the archiver uses it. An insert may go wrong in each of the ways in which it may."""

    def __init__(self, world: World, store: SimStore) -> None:
        self._world, self._store = world, store
        world.call()
        if world.trouble():
            raise OperationalError("connection refused")

    def create_insert_context(self, table: str, columns: Sequence[str], column_oriented: bool) -> Any:
        """Ask what the table's columns are. Raises DatabaseError."""
        assert column_oriented
        self._world.call()
        self._known(table)
        if self._world.trouble():
            raise OperationalError("connection reset")
        return SimpleNamespace(table=table, column_names=list(columns))

    def insert(self, data: Sequence[Sequence[Any]], context: Any) -> Any:
        """Insert columns."""
        return self._insert(context.table, [dict(zip(context.column_names, row, strict=True)) for row in zip(*data, strict=True)])

    def insert_arrow(self, table: str, rows: pa.Table, settings: Mapping[str, Any]) -> Any:
        """Insert an Arrow table."""
        del settings
        return self._insert(table, rows.to_pylist())

    def close(self) -> None:
        """Nothing is open."""

    def _known(self, table: str) -> None:
        if table not in KEYS:
            raise DatabaseError(f"Unknown table {table}", code=UNKNOWN_TABLE)

    def _insert(self, table: str, rows: list[Row]) -> Any:
        self._known(table)
        rows = [plain_row(row) for row in rows]
        for row in rows:
            if any(not 0 <= row.get(name, 0) <= most for name, most in MOST.items()):
                raise DataError("a column can't hold a value")
        world, luck = self._world, self._world.luck
        world.call()
        if world.trouble():
            kind = luck.choice(("busy", "not done", "done", "in part", "later", "hangs"))
            if kind == "busy":
                raise DatabaseError("too many simultaneous queries", code=TOO_MANY_QUERIES)
            if kind == "later":
                done_at = world.now + luck.choice(LATE_SECONDS)
                world.later(done_at, lambda: self._store.take(table, rows))
            elif kind in ("done", "in part"):
                self._store.take(table, rows if kind == "done" else rows[: luck.randrange(len(rows))])
            elif kind == "hangs":
                world.wait(world.now + luck.choice((1.5, 12.0)), news=False)
                self._store.take(table, rows)
            world.call()
            if kind != "hangs":
                raise OperationalError("the answer got lost")
        else:
            self._store.take(table, rows)
            world.call()
        return SimpleNamespace(written_rows=len(rows))


def plain_row(row: Row) -> Row:
    """A row as it compares, whichever way it came."""
    return {name: dict(value) if name in MAPS else plain(value) for name, value in row.items()}


def plain(value: Any) -> Any:
    """A value as it compares: a time in milliseconds since 1970, a list as a list."""
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1000)
    return list(value) if isinstance(value, list | tuple) else value
