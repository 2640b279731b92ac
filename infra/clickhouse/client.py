"""Clients of ClickHouse: of the server in the settings, else of the `store` role on this machine. The same code serves both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from infra.core.errors import MissingPrerequisite
from infra.core.secret_files import read_secret, store_token_file
from infra.core.settings import Settings

WRITER = "driftline"


def connect(settings: Settings, writer: bool = False) -> Client:
    """A client whose default database is Driftline's. One a thread: it is not to be shared.

    A client of the local store only reads unless `writer` is asked for, which takes the store's token; of a server, `reader_dsn` is taken
    where it is set and no writer asked for. The database must exist on a server (`apply_migrations` makes it).
    Raises MissingPrerequisite when ClickHouse or the token can't be reached.
    """
    try:
        if settings.clickhouse.dsn is not None:
            dsn = settings.clickhouse.dsn if writer else settings.clickhouse.reader_dsn or settings.clickhouse.dsn
            return clickhouse_connect.get_client(dsn=dsn.get_secret_value(), autogenerate_session_id=False, query_retries=2)
        return clickhouse_connect.get_client(
            host="127.0.0.1",
            port=settings.store.port,
            username=WRITER if writer else "default",
            password=read_secret(store_token_file(settings.data_dir)) if writer else "",
            database=settings.clickhouse.database,
            compress=False,
            autogenerate_session_id=False,
            query_retries=2,
        )
    except (ClickHouseError, OSError) as error:
        raise _unreachable(settings, error) from None


def _unreachable(settings: Settings, error: Exception) -> MissingPrerequisite:
    first = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    if settings.clickhouse.dsn is not None:
        return MissingPrerequisite(
            f"The ClickHouse server of DRIFTLINE_CLICKHOUSE__DSN can't be used: {first}.", "Check its address and password."
        )
    code = getattr(error, "code", None)
    if isinstance(error, DatabaseError) and code is not None:
        return MissingPrerequisite(
            f"The store on 127.0.0.1:{settings.store.port} refuses: {first}.", "Check DRIFTLINE_DATA_DIR: its token must be that store's."
        )
    return MissingPrerequisite(
        f"No store answers on 127.0.0.1:{settings.store.port}.",
        "Start it (driftline up, or driftline run store), or set DRIFTLINE_CLICKHOUSE__DSN to a ClickHouse server.",
    )


def insert_arrow(client: Client, table: str, rows: pa.Table) -> int:
    """Insert an Arrow table in one INSERT; how many rows were written.

    Rows of one key within it are left to merges and FINAL: to look for them at once takes half of an insert's time.
    """
    summary = client.insert_arrow(table, rows, settings={"optimize_on_insert": 0})
    return int(summary.written_rows)


def insert_columns(client: Client, table: str, columns: Mapping[str, Sequence[Any]]) -> int:
    """Insert columns (name → values) in one INSERT; how many rows were written."""
    names = list(columns)
    summary = client.insert(table, cast("Any", list(columns.values())), column_names=names, column_oriented=True)
    return int(summary.written_rows)
