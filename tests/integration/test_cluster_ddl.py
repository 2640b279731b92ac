"""The statements for a ClickHouse cluster: every one parses, and but for replication and distribution they were run by the real engine.

The embedded engine has no Keeper and no cluster: Replicated… is run as the plain engine, a Distributed table as a Merge table over its
local one. A run on a true cluster is left to its operator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from chdb import session

from infra.clickhouse.cluster import cluster_statements, sharding_key
from infra.clickhouse.migrations import Migration, read_migrations
from infra.core.errors import BadInput
from tests.commands import invoke

pytestmark = pytest.mark.store
STATEMENTS = list(cluster_statements(read_migrations(), "main", "sharded"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[session.Session]:
    """With the tables of the cluster in it, but for what needs one."""
    made = session.Session(str(tmp_path_factory.mktemp("cluster")))
    for one in STATEMENTS:
        made.query(alone(one))
    yield made
    made.close()


def ask(engine: session.Session, sql: str) -> str:
    return str(engine.query(sql, "TabSeparatedRaw"))


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def test_every_statement_parses_and_says_where_it_runs(engine: session.Session) -> None:
    for one in STATEMENTS:
        shown = ask(engine, f"SELECT formatQuery({quoted(one)})")
        assert one.startswith("INSERT INTO") or "ON CLUSTER main" in shown, one
    with pytest.raises(RuntimeError, match="Syntax error"):
        ask(engine, f"SELECT formatQuery({quoted(STATEMENTS[2].replace('ENGINE', 'ENGIN'))})")


def test_each_table_is_replicated_and_spread_by_a_part_of_its_sorting_key() -> None:
    local = {one.split()[5].removesuffix("_local") for one in STATEMENTS if re.match(r"CREATE TABLE \S+ \S+ \S+ \S+_local ", one)}
    spread = {one.split()[5] for one in STATEMENTS if "ENGINE = Distributed(" in one}
    assert local == spread
    assert {"sharded.sweeps", "sharded.findings", "sharded.freshness"} <= local
    assert all("ENGINE = Replicated" in one for one in STATEMENTS if re.match(r"CREATE TABLE (?!.*ENGINE = Distributed)", one, re.DOTALL))
    assert sharding_key("… ORDER BY (zone, finding_id, x)") == "cityHash64(zone, finding_id)"
    assert sharding_key("… ORDER BY agent_id TTL x") == "cityHash64(agent_id)"


def alone(statement: str) -> str:
    """As one server without Keeper can run it."""
    plain = re.sub(r"Replicated(\w+)\('[^']*', '[^']*'(?:, (\w+))?\)", lambda found: f"{found[1]}({found[2] or ''})", statement)
    plain = re.sub(r"Distributed\(main, sharded, (\w+), [^)]*\)\)", r"Merge(sharded, '^\1$')", plain)
    return plain.replace(" ON CLUSTER main", "")


def test_tables_and_views_have_the_columns_of_a_single_server(engine: session.Session) -> None:
    engine.query("CREATE DATABASE single ENGINE = Atomic")
    engine.query("USE single")
    for migration in read_migrations():
        for statement in migration.statements:
            engine.query(statement)

    def columns(database: str) -> dict[str, list[tuple[str, str]]]:
        sql = f"SELECT table, groupArray((name, type)) FROM system.columns WHERE database = '{database}' GROUP BY table"  # noqa: S608
        return {row[0]: row[1] for row in map(json.loads, ask(engine, f"{sql} FORMAT JSONCompactEachRow").splitlines())}

    single, sharded = columns("single"), columns("sharded")
    for table, wanted in single.items():
        assert sharded[table] == wanted, table
        if table + "_local" in sharded:
            assert sharded[table + "_local"] == wanted, table


def test_what_comes_into_a_shard_is_summed_up_there_and_read_through_the_views(engine: session.Session) -> None:
    engine.query(
        "INSERT INTO sharded.sweeps_local (unit_id, zone, subnet, addresses, complete, finished_at) "
        "VALUES ('u', 'z', 's', ['198.18.0.0/28', '198.18.0.77', '2001:db8::/127'], true, now64(3))"
    )
    assert ask(engine, "SELECT zone, subnet, addresses FROM sharded.not_looked_at_lately") == "z\ts\t19\n"
    assert ask(engine, "SELECT count() FROM sharded.schema_migrations FINAL") == f"{len(read_migrations())}\n"


def test_a_statement_that_no_rule_covers_is_refused() -> None:
    with pytest.raises(BadInput, match="No rule says"):
        list(cluster_statements([Migration("0001_x", ("OPTIMIZE TABLE sweeps",), "c")], "main", "sharded"))
    for wrong in ("ma in", "main; DROP TABLE x", ""):
        with pytest.raises(BadInput, match="is no name"):
            list(cluster_statements([], wrong, "sharded"))


def test_the_command_prints_them_all() -> None:
    result = invoke("ddl", "--cluster", "main", "--database", "sharded")
    assert result.exit_code == 0
    assert [one.strip() for one in result.stdout.split(";\n\n") if one.strip()] == STATEMENTS
    later = invoke("ddl", "--cluster", "main", "--after", "9999_none")
    assert isinstance(later.exception, BadInput)
