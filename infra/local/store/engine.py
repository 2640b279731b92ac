"""The embedded ClickHouse engine: opened once in this process, asked through a pool of chDB handles.

A handle is set up once, for one access, database and set of settings, and only a request of the same kind gets it again: nothing
has to be put back, and nothing of one request reaches another. What a reader may not do the engine itself refuses: its handle is
locked with `readonly = 1`, and the engine's only user holds no grant on any source (files, URLs, S3, other databases), which
binds the writer too.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import clickhouse_connect
import structlog
from clickhouse_connect.driver.client import Client

from infra.core.errors import MissingPrerequisite
from infra.local.store.dialect import Statement, quote, quote_name

log = structlog.get_logger()

Access = Literal["reader", "writer"]
_Key = tuple[Access, str, tuple[tuple[str, str], ...]]

POOLED = 8  # idle handles kept

# Few background threads, small caches, no log tables: at rest the engine must cost next to nothing.
_CONFIG = """<clickhouse>
  <users_config>{users}</users_config>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
  <mark_cache_size>33554432</mark_cache_size>
  <index_mark_cache_size>8388608</index_mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <index_uncompressed_cache_size>0</index_uncompressed_cache_size>
  <primary_index_cache_size>33554432</primary_index_cache_size>
  <mmap_cache_size>100</mmap_cache_size>
  <compiled_expression_cache_size>8388608</compiled_expression_cache_size>
  <query_cache><max_size_in_bytes>8388608</max_size_in_bytes></query_cache>
  <background_pool_size>2</background_pool_size>
  <background_merges_mutations_concurrency_ratio>1</background_merges_mutations_concurrency_ratio>
  <os_threads_nice_value_merge_mutate>10</os_threads_nice_value_merge_mutate>
  <background_move_pool_size>1</background_move_pool_size>
  <background_fetches_pool_size>1</background_fetches_pool_size>
  <background_common_pool_size>1</background_common_pool_size>
  <background_buffer_flush_schedule_pool_size>1</background_buffer_flush_schedule_pool_size>
  <background_schedule_pool_size>2</background_schedule_pool_size>
  <background_message_broker_schedule_pool_size>1</background_message_broker_schedule_pool_size>
  <background_distributed_schedule_pool_size>1</background_distributed_schedule_pool_size>
  <tables_loader_background_pool_size>1</tables_loader_background_pool_size>
  <tables_loader_foreground_pool_size>2</tables_loader_foreground_pool_size>
  <max_thread_pool_size>200</max_thread_pool_size>
  <max_thread_pool_free_size>4</max_thread_pool_free_size>
  <asynchronous_metrics_update_period_s>3600</asynchronous_metrics_update_period_s>
  <memory_worker_period_ms>1000</memory_worker_period_ms>
  <merge_tree>
    <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
    <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
    <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
    <merge_selecting_sleep_ms>5000</merge_selecting_sleep_ms>
  </merge_tree>
</clickhouse>
"""
_USERS = """<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password><profile>default</profile><quota>default</quota><networks><ip>::1</ip></networks>
    <grants>
      <query>GRANT CHECK, SHOW, SELECT, INSERT, ALTER, CREATE, DROP, TRUNCATE, OPTIMIZE, KILL QUERY, SYSTEM, dictGet ON *.*</query>
      <query>GRANT TABLE ENGINE ON *</query>
    </grants>
  </default></users>
</clickhouse>
"""


class EngineError(Exception):
    """The engine refused or failed a statement. `code` is ClickHouse's number for the error."""

    def __init__(self, message: str) -> None:
        found = re.search(r"Code: (\d+)\.", message)
        super().__init__(message[found.start() :] if found else message)
        self.code = int(found.group(1)) if found else 1002


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the bytes of the result in its format, and what the statement read or wrote."""

    body: bytes
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    seconds: float = 0.0


class Engine:
    """The one open engine of this process.

    Raises MissingPrerequisite when another process has the folder open. Never fork while it is open: the engine's threads and
    locks do not survive a fork.
    """

    def __init__(self, folder: Path, database: str, memory_mb: int) -> None:
        self._database = database
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(folder)
        self._target = str(folder.resolve())
        self._options = {"config-file": str(_write_config(folder.parent / "clickhouse-config", memory_mb))}
        self._pool: OrderedDict[_Key, list[Any]] = OrderedDict()
        self._pool_lock = threading.Lock()
        # The embedded engine takes its time zone from here alone (`<timezone>` is ignored), and rows must not depend on the host's.
        os.environ["TZ"] = "UTC"
        # This client holds the engine open, and is what migrations use; requests have handles of their own.
        self.client: Client = clickhouse_connect.get_client(dsn=f"chdb://{self._target}", chdb_options=self._options, tz_source="server")
        self.version = self.client.server_version or ""
        self.client.command(f"CREATE DATABASE IF NOT EXISTS {quote_name(database)} ENGINE = Atomic")
        log.info("engine_opened", folder=self._target, version=self.version)

    def close(self) -> None:
        """Close the engine and let go of its folder. No statement may be running."""
        with self._pool_lock:
            for handle in itertools.chain.from_iterable(self._pool.values()):
                handle.close()
            self._pool.clear()
        self.client.close()
        self._lock.close()

    def kill_queries(self) -> None:
        """End every statement that runs, so that the engine can be closed."""
        self.client.command("KILL QUERY WHERE query_id != queryID() ASYNC")

    @contextmanager
    def _handle(self, key: _Key) -> Iterator[Any]:
        """A handle of this kind, taken from the pool or made; one whose statement failed is not used again."""
        with self._pool_lock:
            kept = self._pool.get(key)
            handle = kept.pop() if kept else None
        handle = handle or self._open(key)
        try:
            yield handle
        except BaseException:
            handle.close()
            raise
        with self._pool_lock:
            self._pool.setdefault(key, []).append(handle)
            self._pool.move_to_end(key)
            surplus = None
            if sum(map(len, self._pool.values())) > POOLED:
                oldest = next(iter(self._pool))
                surplus = self._pool[oldest].pop(0)
            for empty in [one for one, handles in self._pool.items() if not handles]:
                del self._pool[empty]
        if surplus is not None:
            surplus.close()

    def _open(self, key: _Key) -> Any:
        # Imported here: chDB starts threads when it is loaded, and only the store's process may have it.
        from chdb.state.sqlitelike import Connection

        access, database, settings = key
        handle = Connection(f"{self._target}?config-file={self._options['config-file']}")
        try:
            handle.query(f"USE {quote_name(database)}", "TabSeparated")
            # One thread an insert: its rows are few for the engine, and others wait for the processor.
            changes = ["max_insert_threads = 1", "input_format_parallel_parsing = 0"] if access == "writer" else []
            changes += [f"{name} = {quote(value)}" for name, value in settings]
            if access == "reader":
                # Last: once `readonly` stands, nothing can be set any more, not even by a SETTINGS clause.
                changes += ["allow_introspection_functions = 0", "implicit_select = 0", "readonly = 1"]
            if changes:
                handle.query("SET " + ", ".join(changes), "TabSeparated")
        except BaseException:
            handle.close()
            raise
        return handle

    def run(
        self, statement: Statement, access: Access, *, database: str = "", settings: Mapping[str, str], parameters: Mapping[str, str]
    ) -> Answer:
        """Run one statement and give back its whole result. Raises EngineError."""
        try:
            with self._handle((access, database or self._database, tuple(sorted(settings.items())))) as handle:
                if statement.data is not None:
                    return _insert(handle, statement, statement.data)
                result = handle.query(statement.sql, statement.default_format, params=dict(parameters))
                return Answer(
                    result.bytes() or b"",
                    read_rows=result.storage_rows_read(),
                    read_bytes=result.storage_bytes_read(),
                    written_rows=result.rows_written() if statement.kind == "insert" else 0,
                    written_bytes=result.bytes_written() if statement.kind == "insert" else 0,
                    seconds=result.elapsed(),
                )
        except RuntimeError as error:  # chDB's own errors derive from it
            raise EngineError(str(error)) from None


def _insert(handle: Any, statement: Statement, data: bytes) -> Answer:
    """Insert rows through a file in memory. chDB's own streaming insert is no way: it says that all is well when the last part fails."""
    file = os.memfd_create("insert")
    try:
        with open(file, "wb", closefd=False) as body:
            body.write(data)
        source = f" FROM INFILE '/proc/self/fd/{file}' ".encode()
        done = handle.query(statement.sql + source + statement.settings + b" FORMAT " + statement.format.encode(), "TabSeparated")
        return Answer(b"", written_rows=done.rows_written(), written_bytes=done.bytes_written(), seconds=done.elapsed())
    finally:
        os.close(file)


def _lock(folder: Path) -> IO[str]:
    """Hold the folder for this process; the engine has a lock too, but says it in a trace on standard error."""
    held = (folder.parent / f"{folder.name}.lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise MissingPrerequisite(
            f"Another process has the ClickHouse data in {folder} open.",
            "One store at a time owns it: stop the other one, or set DRIFTLINE_DATA_DIR to another folder.",
        ) from None
    return held


def _write_config(folder: Path, memory_mb: int) -> Path:
    """Write the engine's configuration beside its data; the engine takes it only as files."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    users, config = folder / "users.xml", folder / "config.xml"
    users.write_text(_USERS)
    config.write_text(_CONFIG.format(users=users, memory=memory_mb << 20))
    os.chmod(config, 0o600)  # noqa: PTH101
    return config
