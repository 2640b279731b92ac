"""`query`: asking ClickHouse."""

from __future__ import annotations

import re

import typer

from infra.app.output import print_rows, tell
from infra.app.querying import rows_of
from infra.core.errors import BadInput

app = typer.Typer()
FORMAT = re.compile(r"\bFORMAT\s+\w+\s*;?\s*$", re.IGNORECASE)
MOST_SHOWN = 1000
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command()
def query(sql: str = typer.Argument(help="One SELECT."), as_json: bool = JSON) -> None:
    """Ask ClickHouse, read only. Good first tables: open_now, worst_first, changed_today, not_looked_at_lately, refused, watermarks."""
    if not sql.strip():
        raise BadInput("The query is empty.", "Give one, e.g. 'SELECT * FROM worst_first'.")
    if FORMAT.search(sql):
        raise BadInput(
            "This command chooses the format itself.",
            "Leave FORMAT out; --json prints JSON. Other formats: curl, as in docs/data-engineer.md.",
        )
    columns, rows = rows_of(sql)
    print_rows("", columns, rows if as_json else rows[:MOST_SHOWN], as_json, "No rows.")
    if not as_json and len(rows) > MOST_SHOWN:
        tell(f"{len(rows) - MOST_SHOWN} more rows; --json prints all of them.")
