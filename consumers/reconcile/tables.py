"""What stands in ClickHouse for a stretch of the log: keys as hashes, and how many rows stand more than once."""

from __future__ import annotations

from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from consumers.reconcile.ledger import KEYS, SEPARATOR

VERSIONS = {
    "assets": "revision",
    "services": "revision",
    "exposures": "revision",
    "findings": "revision",
    "agents": "recorded_at",
    "rollups": "count",
}
TIMES = frozenset({"window_start"})


@dataclass(frozen=True, slots=True)
class Standing:
    """Hashes of the rows with an append time in the stretch, of those in it or later, and how many rows of it are copies."""

    there: set[int]
    since: set[int]
    copies: int


def complete_to(client: Client) -> dict[str, int]:
    """Up to when (milliseconds) all rows of each topic are written."""
    result = client.query("SELECT topic, toUnixTimestamp64Milli(complete_to) FROM watermarks")
    return {str(topic): int(at) for topic, at in result.result_rows}


def standing(client: Client, table: str, first: int, last: int) -> Standing:
    """The rows of records that Kafka appended from `first` to before `last` (milliseconds)."""
    names = [f"toString({f'toUnixTimestamp64Milli({name})' if name in TIMES else name})" for name in KEYS[table]]
    key = f"halfMD5(concat({', '.join(_between(names))}))"
    stretch = {"first": first, "last": last}
    later = "recorded_at >= fromUnixTimestamp64Milli({first:Int64})"
    within = later + " AND recorded_at < fromUnixTimestamp64Milli({last:Int64})"
    version = f", {VERSIONS[table]}" if table in VERSIONS else ""
    # Our own names, no input.
    count = f"SELECT count() - uniqExact({key}{version}) FROM {table} WHERE {within}"  # noqa: S608
    copies = client.query(count, parameters=stretch).result_rows[0][0]
    seen = f"SELECT {key}, {within} FROM {table} FINAL WHERE {later}"  # noqa: S608
    rows = client.query(seen, parameters=stretch).result_rows
    return Standing({int(one) for one, inside in rows if inside}, {int(one) for one, _ in rows}, int(copies))


def _between(names: list[str]) -> list[str]:
    """The names with the separator between them."""
    found = [names[0]]
    for name in names[1:]:
        found += [f"'{SEPARATOR}'", name]
    return found
