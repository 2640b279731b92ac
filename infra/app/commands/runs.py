"""`driftline runs`: how far what was ordered has come, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import typer
from rich.progress import Progress

from infra.app.output import count, print_json, print_rows, progress, tell
from infra.app.querying import rows_of

app = typer.Typer()
AT_ONCE = 500
ASK_SECONDS = 1.0
SAY_SECONDS = 10.0
REFUSALS_TOLD = 20
NONE = "Nothing was ordered yet. Push targets with 'driftline targets push', or make a campaign."
QUERY = """
WITH ordered AS (SELECT * FROM runs FINAL WHERE {where} ORDER BY started_at DESC, run_id LIMIT {limit})
SELECT started_at, run_id, request_id, campaign_id, zone, cause, addresses, ports, units, looked_at, stopped, stopped_reasons,
       units - least(units, looked_at + stopped) AS waiting, length(refused_targets) AS refused, refused_targets, refused_reasons
FROM ordered LEFT JOIN (
    SELECT run_id, countIf(whole) AS looked_at, countIf(NOT whole) AS stopped, groupUniqArrayIf(reason, NOT whole) AS stopped_reasons
    FROM (
        SELECT run_id, unit_id, min(complete) AS whole, max(stopped_reason) AS reason
        FROM sweeps FINAL WHERE run_id IN (SELECT run_id FROM ordered) GROUP BY run_id, unit_id
    ) GROUP BY run_id
) AS done USING (run_id)
ORDER BY started_at, run_id
"""
Row = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What became of requests: units looked at in whole, units that were stopped with the reasons, refused targets with the reasons."""

    looked_at: int = 0
    stopped: int = 0
    stopped_reasons: set[str] = field(default_factory=set)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def add(self, rows: Sequence[Row]) -> None:
        """Count the runs of some requests."""
        for row in rows:
            self.looked_at += int(row["looked_at"])
            self.stopped += int(row["stopped"])
            self.stopped_reasons |= set(row["stopped_reasons"])
            self.refused += zip(row["refused_targets"], row["refused_reasons"], strict=True)

    def whole(self) -> bool:
        """Whether all that was asked for was looked at."""
        return not self.stopped and not self.refused

    def tell(self) -> None:
        """Say it."""
        tell_refusals(self.refused)
        stopped = f", {self.stopped} stopped before the end ({'; '.join(sorted(self.stopped_reasons))})" if self.stopped else ""
        tell(f"{count(self.looked_at, 'unit')} looked at{stopped}.")


@app.command()
def runs(
    limit: int = typer.Option(20, "--limit", min=1, max=100_000, help="The newest so many."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Show what was ordered and how far it is. Units looked at, stopped, waiting; targets refused."""
    _, rows = rows_of(QUERY.format(where="1", limit=limit))
    if as_json:
        print_json(rows)
        return
    optional = [name for name in ("campaign_id", "stopped", "refused") if any(row[name] for row in rows)]
    print_rows("runs", ("started_at", "cause", "addresses", "looked_at", *optional, "run"), [_short(row) for row in rows], False, NONE)
    for row in rows:
        tell_refusals(list(zip(row["refused_targets"], row["refused_reasons"], strict=True)), f"{row['run_id'][:8]} ")
        for reason in row["stopped_reasons"]:
            tell(f"{row['run_id'][:8]} stopped: {reason}")


def _short(row: Row) -> Row:
    """A run for a line of a table."""
    return {**row, "looked_at": f"{row['looked_at']} of {count(row['units'], 'unit')}", "run": row["run_id"][:8]}


def wait_for_requests(request_ids: Sequence[str]) -> Outcome:
    """Show how far these requests are until each was planned and each unit of them came to an end."""
    outcome = Outcome()
    with progress() as display:
        for first in range(0, len(request_ids), AT_ONCE):
            outcome.add(_until_done(request_ids[first : first + AT_ONCE], display))
    return outcome


def _until_done(request_ids: Sequence[str], display: Progress) -> list[Row]:
    task, said = display.add_task("waiting to be planned", total=None), time.monotonic()
    names = ", ".join("'" + one.replace("\\", "\\\\").replace("'", "\\'") + "'" for one in request_ids)
    while True:
        _, rows = rows_of(QUERY.format(where=f"request_id IN ({names})", limit=10 * AT_ONCE))
        units, waiting = (sum(int(row[name]) for row in rows) for name in ("units", "waiting"))
        planned = {row["request_id"] for row in rows} >= set(request_ids)
        if planned and not waiting:
            display.remove_task(task)
            return rows
        words = "units ended" if planned else "units ended, some requests wait to be planned"
        display.update(task, description=words, completed=units - waiting, total=units or None)
        if display.disable and time.monotonic() - said >= SAY_SECONDS:
            tell(f"{units - waiting} of {units} {words}")
            said = time.monotonic()
        time.sleep(ASK_SECONDS)


def tell_refusals(refused: Sequence[tuple[str, str]], before: str = "") -> None:
    """Say which targets were refused and why."""
    for target, reason in refused[:REFUSALS_TOLD]:
        tell(f"{before}refused: {target}: {reason}")
    if len(refused) > REFUSALS_TOLD:
        tell(f"{before}{len(refused) - REFUSALS_TOLD} more are in the view 'refused'.")
