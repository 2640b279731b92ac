"""The same tables on a sharded, replicated ClickHouse cluster: the migrations' statements rewritten. Pure: text in, text out.

Each table becomes `<table>_local`, replicated in its shard, and under its own name a Distributed table over all shards, so that readers
and writers need not know. Rows that replace each other lie on one shard, because the sharding key is a part of the sorting key:
else FINAL, which works a shard at a time, would show both. Views read over all shards; the materialised view works where rows come in.
Source: ClickHouse documentation, "Distributed table engine", "Data replication", "Distributed DDL queries".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from infra.clickhouse.migrations import TABLE, Migration
from infra.core.errors import BadInput

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\s*(\(.*\)) ENGINE = (\w+MergeTree)(?:\(([^)]*)\))?(.*)", re.DOTALL)
_ORDER = re.compile(r"ORDER BY (?:\(([^)]*)\)|(\w+))")
_FEED = re.compile(r"CREATE MATERIALIZED VIEW (IF NOT EXISTS )?(\w+) TO (\w+) AS(.*)", re.DOTALL)
_VIEW = re.compile(r"(CREATE (?:OR REPLACE )?VIEW (?:IF NOT EXISTS )?\w+)( AS.*)", re.DOTALL)
_ALTER = re.compile(r"ALTER TABLE (\w+) (.*)", re.DOTALL)
_DROP = re.compile(r"(DROP VIEW IF EXISTS \w+)")
_CODEC = re.compile(r" CODEC\(\w+(?:\(\d+\))?(?:, \w+(?:\(\d+\))?)*\)")
_FROM = re.compile(r"\bFROM (\w+)")
_MADE = re.compile(r"^((?:CREATE|ALTER|DROP)(?: OR REPLACE)?(?: MATERIALIZED)? (?:TABLE|VIEW) (?:IF (?:NOT )?EXISTS )?)(?!\w+\.)")
SHARD_COLUMNS = 2


def cluster_statements(migrations: Iterable[Migration], cluster: str, database: str) -> Iterator[str]:
    """The statements that bring a cluster to the shape of these migrations, in order, the record of them included.

    Raises BadInput for a name that is none, or a statement of a kind that no rule here covers.
    """
    for name in (cluster, database):
        if not NAME.fullmatch(name):
            raise BadInput(f"'{name}' is no name of a cluster or database.", "Use letters, digits and _.")
    on = f"ON CLUSTER {cluster}"
    yield f"CREATE DATABASE IF NOT EXISTS {database} {on} ENGINE = Atomic"
    columns = "(name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))"
    everywhere = f"'/clickhouse/tables/all/{database}/{TABLE}', '{{shard}}-{{replica}}', applied_at"
    yield f"CREATE TABLE IF NOT EXISTS {database}.{TABLE} {on} {columns} ENGINE = ReplicatedReplacingMergeTree({everywhere}) ORDER BY name"
    for migration in migrations:
        for statement in migration.statements:
            yield from (_in_database(one, database) for one in _rewritten(statement, on, cluster, database))
        yield f"INSERT INTO {database}.{TABLE} (name, checksum) VALUES ('{migration.name}', '{migration.checksum}')"  # noqa: S608  our own


def _rewritten(statement: str, on: str, cluster: str, database: str) -> Iterator[str]:
    if match := _TABLE.fullmatch(statement):
        name, columns, engine, arguments, rest = match.groups()
        path = f"'/clickhouse/tables/{{shard}}/{database}/{name}', '{{replica}}'"
        given = f"{path}, {arguments}" if arguments else path
        yield f"CREATE TABLE IF NOT EXISTS {name}_local {on} {columns} ENGINE = Replicated{engine}({given}){rest}"
        yield (
            f"CREATE TABLE IF NOT EXISTS {name} {on} AS {name}_local "
            f"ENGINE = Distributed({cluster}, {database}, {name}_local, {sharding_key(statement)})"
        )
    elif match := _FEED.fullmatch(statement):
        sure, name, target, query = match.groups()
        local = _FROM.sub(r"FROM \1_local", query)
        yield f"CREATE MATERIALIZED VIEW {sure or ''}{name} {on} TO {target}_local AS{local}"
    elif match := _VIEW.fullmatch(statement):
        yield f"{match[1]} {on}{match[2]}"
    elif match := _ALTER.fullmatch(statement):
        name, change = match.groups()
        yield f"ALTER TABLE {name}_local {on} {change}"
        if not change.startswith("MODIFY TTL"):  # how long rows are kept is the local tables' matter
            yield f"ALTER TABLE {name} {on} {_CODEC.sub('', change)}"
    elif match := _DROP.fullmatch(statement):
        yield f"{match[1]} {on}"
    else:
        raise BadInput(
            f"No rule says what this is on a cluster: {' '.join(statement.split())[:120]}", "Add one to infra/clickhouse/cluster.py."
        )


def sharding_key(statement: str) -> str:
    """From the first columns of the sorting key: rows that are equal there lie on one shard."""
    match = _ORDER.search(statement)
    columns = [one.strip() for one in (match[1] or match[2]).split(",")] if match else []
    if not columns:
        raise BadInput("A table without a sorting key can't be sharded.", "Add ORDER BY.")
    return f"cityHash64({', '.join(columns[:SHARD_COLUMNS])})"


def _in_database(statement: str, database: str) -> str:
    """Names in full: a statement ON CLUSTER runs on hosts that know nothing of this session's database."""
    found = _MADE.sub(rf"\1{database}.", statement)
    found = re.sub(r"( TO | AS )(\w+_local)\b", rf"\1{database}.\2", found, count=1)
    return re.sub(r"(\bFROM|(?<!ARRAY )JOIN) (\w+)\b(?!\.)", rf"\1 {database}.\2", found)
