"""How the demo tells: tables of findings and changes for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from infra.app.output import RANK_STYLES, escape, out

Rows = Sequence[dict[str, Any]]


def show_findings(findings: Rows) -> None:
    """The ranked table: what was found, why it matters, what to do."""
    table = Table(title="Findings, worst first", title_justify="left", header_style="bold", show_lines=True)
    for name, width in (("rank", 8), ("risk", 4), ("what and where", 40), ("why it matters", 48), ("what to do", 44)):
        table.add_column(name, max_width=width, overflow="fold")
    for row in findings:
        style = RANK_STYLES[row["rank"]]
        places = ", ".join(row["places"][:4]) + (f" and {len(row['places']) - 4} more" if len(row["places"]) > 4 else "")
        what = f"[bold]{escape(row['title'])}[/]\n{escape(places)}"
        table.add_row(f"[{style}]{row['rank']}[/]", f"{row['risk']:.0f}", what, escape(row["why"]), escape(row["action"]))
    out().print(table)


def show_rows(title: str, sql: str, rows: Rows) -> None:
    """A query as one would type it, and its answer."""
    out().print(f'\n[bold]{escape(title)}[/]\n[dim]driftline query "{escape(sql)}"[/]')
    if not rows:
        out().print("  (no rows)")
        return
    table = Table(header_style="bold")
    for name in rows[0]:
        table.add_column(name)
    for row in rows[:25]:
        table.add_row(*(escape(f"{value:%Y-%m-%d %H:%M}" if hasattr(value, "strftime") else str(value)) for value in row.values()))
    out().print(table)


def show_changes(changes: Rows, moved: Rows) -> None:
    """What changed in the lab, and what that did to the ranking."""
    table = Table(title="What changed", title_justify="left", header_style="bold")
    for name in ("seen at (UTC)", "address", "port", "change", "in words"):
        table.add_column(name, overflow="fold")
    for row in changes:
        table.add_row(f"{row['observed_at']:%H:%M:%S}", row["address"], str(row["port"] or ""), row["kind"], escape(row["summary"]))
    out().print(table)
    ranking = Table(title="What that did to the ranking", title_justify="left", header_style="bold")
    for name in ("", "rank", "risk", "finding", "places"):
        ranking.add_column(name, overflow="fold")
    for row in moved:
        style = RANK_STYLES[row["rank"]]
        ranking.add_row(
            row["moved"], f"[{style}]{row['rank']}[/]", f"{row['risk']:.0f}", escape(row["title"]), escape(", ".join(row["places"]))
        )
    out().print(ranking)


def moves(before: Rows, after: Rows) -> list[dict[str, Any]]:
    """What came, went and moved between two lists of open findings, worst first."""
    old, new = ({row["finding_id"]: row for row in rows} for rows in (before, after))
    found = [{**row, "moved": "reopened" if row["reopened"] else "new"} for key, row in new.items() if key not in old]
    found += [{**row, "moved": "resolved"} for key, row in old.items() if key not in new]
    for key, row in new.items():
        was = old.get(key)
        if was and (was["risk"], was["places"]) != (row["risk"], row["places"]):
            found.append({**row, "moved": f"was {was['risk']:.0f}" if was["risk"] != row["risk"] else "places changed"})
    return sorted(found, key=lambda row: (-row["risk"], row["title"], row["finding_id"]))
