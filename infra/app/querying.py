"""Queries on ClickHouse as the commands put them: rows as JSON has them, and a sentence where it refuses or does not answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from clickhouse_connect import common
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from infra.clickhouse.client import connect
from infra.core.errors import BadInput, MissingPrerequisite
from infra.core.settings import load_settings

UNCHECKED = "invalid_setting_action"


def rows_of(sql: str, limits: Mapping[str, int] | None = None) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Column names and rows of a query, under these settings of ClickHouse. Raises BadInput with its own words when it refuses the query.

    Raises MissingPrerequisite when it does not answer.
    """
    for name in ("clickhouse_connect", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they have to say is said below
    client = connect(load_settings())
    action = common.get_setting(UNCHECKED)
    common.set_setting(UNCHECKED, "send")  # a reader may lower limits that its client takes for fixed
    try:
        result = client.query(sql, settings=dict(limits or {}))
    except DatabaseError as error:
        if error.code is None:  # no word of ClickHouse's: it went away
            raise MissingPrerequisite(f"ClickHouse stopped answering: {_first_line(error)}", "See 'driftline status'.") from None
        raise BadInput(
            f"ClickHouse refused the query: {_first_line(error)}", "It takes one query that reads: SELECT, SHOW, DESCRIBE, EXPLAIN."
        ) from None
    except (ClickHouseError, OSError) as error:
        raise MissingPrerequisite(f"ClickHouse did not answer the query: {_first_line(error)}", "See 'driftline status'.") from None
    finally:
        common.set_setting(UNCHECKED, action)
        client.close()
    names = _different(result.column_names)
    return names, [dict(zip(names, map(_with_zone, row), strict=True)) for row in result.result_rows]


def _with_zone(value: object) -> object:
    """clickhouse-connect hands out times in UTC without saying so."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _first_line(error: Exception) -> str:
    """ClickHouse's sentence, without what its client and its server put around it."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.rpartition("DB::Exception: ")[2].partition(" (for url ")[0][:500]


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """Columns may share a name in SQL, not in a JSON object."""
    found: list[str] = []
    for name in names:
        found.append(name if name not in found else f"{name}_{len(found) + 1}")
    return tuple(found)
