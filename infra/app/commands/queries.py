"""`query`, `agents`: asking ClickHouse."""

from __future__ import annotations

import typer
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.app.output import print_rows
from infra.clickhouse.client import connect
from infra.core.errors import BadInput
from infra.core.settings import load_settings

app = typer.Typer()
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command()
def query(sql: str = typer.Argument(help="One SELECT."), as_json: bool = JSON) -> None:
    """Ask ClickHouse, read only. Good first tables: open_now, worst_first, changed_today, not_looked_at_lately, refused, watermarks."""
    print_rows("", *ask(sql), as_json, "No rows.")


@app.command()
def agents(as_json: bool = JSON) -> None:
    """Show the scanners: where they are, what they do, when they were last heard."""
    columns, rows = ask(
        "SELECT agent_id, zone, state, engine, units_running, units_done, packets_sent, packets_refused, at AS last_heard "
        "FROM agents FINAL ORDER BY agent_id"
    )
    print_rows("agents", columns, rows, as_json, "No scanner has told of itself yet. Start one with 'driftline up'.")


def ask(sql: str) -> tuple[tuple[str, ...], list[dict[str, object]]]:
    """Column names and rows of a query. Raises BadInput with ClickHouse's own words when it refuses the query."""
    client = connect(load_settings())
    try:
        result = client.query(sql)
    except ClickHouseError as error:
        raise BadInput(f"ClickHouse refused the query: {str(error).strip().splitlines()[0][:500]}", "It takes one SELECT.") from None
    finally:
        client.close()
    names = tuple(result.column_names)
    return names, [dict(zip(names, row, strict=True)) for row in result.result_rows]
