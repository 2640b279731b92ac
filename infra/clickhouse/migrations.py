"""The database's shape as numbered SQL files, forward only: `NNNN_name.sql`, each with a note how its change is taken back.

What was applied is kept in the table `schema_migrations`. An applied file may not change: a later one mends it.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import structlog
from clickhouse_connect.driver.client import Client

from infra.core.errors import BadInput, MissingPrerequisite

log = structlog.get_logger()

TABLE = "schema_migrations"
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_LEASE_SECONDS = 60
# A string, a quoted name or a comment is one piece, so that a semicolon inside it ends nothing.
_PIECE = re.compile(r"""'(?:[^'\\]|\\.|'')*'|`[^`]*`|"[^"]*"|--[^\n]*|/\*.*?\*/|;|[^'`"\-/;]+|.""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name without `.sql`, its statements, and a SHA-256 of its text."""

    name: str
    statements: tuple[str, ...]
    checksum: str


def split_statements(text: str) -> tuple[str, ...]:
    """The statements of a file, which a semicolon ends; comments go, quotes stay whole."""
    statements, current = [], ""
    for match in _PIECE.finditer(text):
        piece = match.group()
        if piece == ";":
            statements.append(current.strip())
            current = ""
        elif piece.startswith(("--", "/*")) and len(piece) > 1:
            current += " "
        else:
            current += piece
    return tuple(statement for statement in [*statements, current.strip()] if statement)


def read_migrations(folder: Path | Traversable | None = None) -> list[Migration]:
    """The files of the folder (by default the ones of this release), in order.

    Raises BadInput for a wrong name, a number used twice, a gap, a missing rollback note or a file without a statement.
    """
    source = folder if folder is not None else files("infra.clickhouse").joinpath("sql")
    found = sorted((one for one in source.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name) if source.is_dir() else []
    migrations = []
    for expected, file in enumerate(found, start=1):
        match = _NAME.fullmatch(file.name)
        text = file.read_text(encoding="utf-8")
        if match is None or int(match.group(1)) != expected:
            raise BadInput(
                f"The migration {file.name} is out of order.",
                f"Name it {expected:04d}_what_it_does.sql: numbers from 0001, no gap, none twice.",
            )
        if not text.startswith("-- rollback:") or not text.splitlines()[0].removeprefix("-- rollback:").strip():
            raise BadInput(
                f"The migration {file.name} has no rollback note.", "Begin it with a line `-- rollback: …` that says how to take it back."
            )
        statements = split_statements(text)
        if not statements:
            raise BadInput(f"The migration {file.name} holds no statement.", "Write one, or remove the file.")
        migrations.append(Migration(file.name.removesuffix(".sql"), statements, hashlib.sha256(text.encode()).hexdigest()))
    return migrations


def apply_migrations(client: Client, database: str, folder: Path | Traversable | None = None) -> list[str]:
    """Bring the database to this release's shape; the names of the migrations that were applied now.

    Makes the database (Atomic) where it is missing. Two processes at once are safe: one holds a lease and the other waits. The
    client's default database becomes this one. Raises BadInput for a changed or missing applied file, MissingPrerequisite when
    another process holds the lease for too long.
    """
    migrations = read_migrations(folder)
    client.command(f"CREATE DATABASE IF NOT EXISTS `{_checked(database)}` ENGINE = Atomic", use_database=False)
    client.database = database
    client.command(
        f"CREATE TABLE IF NOT EXISTS {TABLE} (name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) "
        "ENGINE = ReplacingMergeTree(applied_at) ORDER BY name"
    )
    if not _pending(client, migrations):
        return []
    _take_lease(client)
    try:
        applied = []
        for migration in _pending(client, migrations):
            for statement in migration.statements:
                client.command(statement)
            client.insert(TABLE, [[migration.name, migration.checksum]], column_names=["name", "checksum"])
            log.info("migration_applied", name=migration.name, database=database)
            applied.append(migration.name)
        return applied
    finally:
        client.command(f"DROP TABLE IF EXISTS {TABLE}_lease SYNC")


def _checked(database: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", database):
        raise BadInput(f"{database!r} is no name for a database.", "Use letters, digits and _ (DRIFTLINE_CLICKHOUSE__DATABASE).")
    return database


def _pending(client: Client, migrations: list[Migration]) -> list[Migration]:
    """What is not applied yet. Raises BadInput where what was applied is not what this release holds."""
    rows = client.query(f"SELECT name, checksum FROM {TABLE} FINAL ORDER BY name").result_rows  # noqa: S608
    applied = {str(name): str(checksum) for name, checksum in rows}
    known = {migration.name for migration in migrations}
    if unknown := sorted(applied.keys() - known):
        raise BadInput(
            f"The database is newer than this release: it knows {', '.join(unknown)}.", "Run the release that made it, or a later one."
        )
    for migration in migrations:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise BadInput(
                f"The migration {migration.name} was changed after it was applied.", "Restore the file and put the change into a new one."
            )
    return [migration for migration in migrations if migration.name not in applied]


def _take_lease(client: Client) -> None:
    """One process at a time: CREATE TABLE of a name succeeds once. A lease that outlives its time belonged to a dead process."""
    deadline = time.monotonic() + 2 * _LEASE_SECONDS
    while True:
        try:
            client.command(f"CREATE TABLE {TABLE}_lease (x UInt8) ENGINE = MergeTree ORDER BY x")
        except Exception as error:
            if getattr(error, "code", None) != 57:  # TABLE_ALREADY_EXISTS
                raise
        else:
            return
        age = client.query(
            f"SELECT now() - metadata_modification_time FROM system.tables WHERE database = currentDatabase() AND name = '{TABLE}_lease'"  # noqa: S608
        ).result_rows
        if age and int(age[0][0]) > _LEASE_SECONDS:
            log.warning("migration_lease_expired", seconds=int(age[0][0]))
            client.command(f"DROP TABLE IF EXISTS {TABLE}_lease SYNC")
        elif time.monotonic() > deadline:
            raise MissingPrerequisite(
                "Another process has been applying migrations for too long.", f"End it, or drop the table {TABLE}_lease."
            )
        time.sleep(0.2)
