"""`driftline ddl`: the tables' SQL for a sharded, replicated ClickHouse cluster."""

from __future__ import annotations

import sys

import typer

from infra.clickhouse.cluster import cluster_statements
from infra.clickhouse.migrations import read_migrations
from infra.core.errors import BadInput
from infra.core.settings import load_settings

app = typer.Typer()


@app.command()
def ddl(
    cluster: str = typer.Option(
        ..., "--cluster", help="The cluster's name on the servers, where the macros shard and replica must be set."
    ),
    database: str = typer.Option(None, "--database", help="The database; default: clickhouse.database."),
    after: str = typer.Option(None, "--after", help="Only what comes after this migration, e.g. 0009_touches: to upgrade a cluster."),
) -> None:
    """Print the statements that make the tables on a ClickHouse cluster, from the same migrations. Run them with clickhouse-client -n."""
    migrations = read_migrations()
    names = [one.name for one in migrations]
    if after is not None and after not in names:
        raise BadInput(f"There is no migration '{after}'.", f"They are {', '.join(names)}.")
    wanted = migrations[names.index(after) + 1 :] if after else migrations
    for statement in cluster_statements(wanted, cluster, database or load_settings().clickhouse.database):
        sys.stdout.write(f"{statement};\n\n")
