"""`driftline runs`: how far what was ordered has come, and waiting for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infra.app.commands.queries import ask
from infra.app.output import count, err, print_json, print_rows, tell

app = typer.Typer()
AT_ONCE = 500
ASK_SECONDS = 1.0
REFUSALS_TOLD = 20
COLUMNS = ("started_at", "cause", "campaign", "addresses", "looked_at", "refused", "run")
NONE = "Nothing was ordered yet. Push targets with 'driftline targets push', or make a campaign."
QUERY = """
WITH ordered AS (SELECT * FROM runs FINAL WHERE {where} ORDER BY started_at DESC, run_id LIMIT {limit})
SELECT started_at, run_id, request_id, campaign_id, zone, cause, addresses, ports, units, looked_at,
       units - least(units, looked_at) AS waiting, length(refused_targets) AS refused, refused_targets, refused_reasons
FROM ordered LEFT JOIN (
    SELECT run_id, uniqExact(unit_id) AS looked_at FROM sweeps WHERE run_id IN (SELECT run_id FROM ordered) GROUP BY run_id
) AS done USING (run_id)
ORDER BY started_at, run_id
"""


@app.command()
def runs(
    limit: int = typer.Option(20, "--limit", min=1, max=100_000, help="The newest so many."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Show what was ordered and how far it is. Units looked at, units waiting, targets refused."""
    _, rows = ask(QUERY.format(where="1", limit=limit))
    if as_json:
        print_json(rows)
        return
    print_rows("runs", COLUMNS, [_short(row) for row in rows], False, NONE)
    _tell_refusals(rows)


def _short(row: dict[str, object]) -> dict[str, object]:
    """A run for a line of a table."""
    looked_at = f"{row['looked_at']} of {count(int(str(row['units'])), 'unit')}"
    return {**row, "campaign": row["campaign_id"], "looked_at": looked_at, "run": str(row["run_id"])[:8]}


def wait_for_requests(request_ids: Sequence[str]) -> None:
    """Show how far these requests are until each was planned and each unit of them was looked at; then what was refused."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    units = 0
    refused: list[dict[str, object]] = []
    with Progress(*columns, console=err(), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("requests planned", total=len(request_ids))
        for first in range(0, len(request_ids), AT_ONCE):
            some = request_ids[first : first + AT_ONCE]
            rows = _until_done(some, progress, units)
            units += sum(int(str(row["units"])) for row in rows)
            refused += [row for row in rows if row["refused"]]
            progress.update(task, advance=len(some))
    _tell_refusals(refused)
    tell(f"{count(units, 'unit')} looked at. See 'driftline findings list'.")


def _until_done(request_ids: Sequence[str], progress: Progress, before: int) -> list[dict[str, object]]:
    task = progress.add_task("units looked at", total=None)
    names = ", ".join("'" + one.replace("\\", "\\\\").replace("'", "\\'") + "'" for one in request_ids)
    while True:
        _, rows = ask(QUERY.format(where=f"request_id IN ({names})", limit=10 * AT_ONCE))
        units, waiting = (sum(int(str(row[name])) for row in rows) for name in ("units", "waiting"))
        progress.update(task, completed=before + units - waiting, total=before + units)
        if not waiting and {row["request_id"] for row in rows} >= set(request_ids):
            progress.remove_task(task)
            return rows
        time.sleep(ASK_SECONDS)


def _tell_refusals(rows: Sequence[dict[str, object]]) -> None:
    found = [pair for row in rows for pair in zip(row["refused_targets"], row["refused_reasons"], strict=True)]  # type: ignore[call-overload]
    for target, reason in found[:REFUSALS_TOLD]:
        tell(f"refused: {target}: {reason}")
    if len(found) > REFUSALS_TOLD:
        tell(f"{len(found) - REFUSALS_TOLD} more are in the view 'refused'.")
