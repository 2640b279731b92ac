"""How the demo tells: findings and changes for people, as tables where the terminal is wide enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.padding import Padding
from rich.table import Table

from infra.app.output import RANK_STYLES, escape, out, print_rows

Rows = Sequence[dict[str, Any]]
WIDE = 120
ROWS_SHOWN = 25


def show_findings(findings: Rows) -> None:
    """The ranked table: what was found, why it matters, what to do. One below the other where there is no room for columns."""
    console = out()
    if console.width < WIDE:
        console.print("Findings, worst first\n", style="italic")
        for row in findings:
            console.print(f"[{RANK_STYLES[row['rank']]}]{row['rank']} {row['risk']:.0f}[/] [bold]{escape(row['title'])}[/]")
            console.print(Padding(f"{escape(_places(row))}\n{escape(row['why'])}\n→ {escape(row['action'])}\n", (0, 0, 0, 2)))
        return
    table = Table(title="Findings, worst first", title_justify="left", header_style="bold", show_lines=True)
    for name, width in (("rank", 8), ("risk", 4), ("what and where", 40), ("why it matters", 48), ("what to do", 44)):
        table.add_column(name, max_width=width, overflow="fold")
    for row in findings:
        style = RANK_STYLES[row["rank"]]
        what = f"[bold]{escape(row['title'])}[/]\n{escape(_places(row))}"
        table.add_row(f"[{style}]{row['rank']}[/]", f"{row['risk']:.0f}", what, escape(row["why"]), escape(row["action"]))
    console.print(table)


def show_mended(rows: Rows) -> None:
    """What a match by version alone would have reported."""
    out().print()
    columns = ("cve", "cvss", "place", "by_version_alone", "not_reported_because")
    print_rows("Not reported, though the version alone says so", columns, rows, False, "By version alone nothing more would be reported.")


def show_rows(title: str, sql: str, rows: Rows) -> None:
    """A query as one would type it, and its answer."""
    out().print(f'\n[bold]{escape(title)}[/]\n[dim]driftline query "{escape(sql)}"[/]')
    print_rows("", tuple(rows[0]) if rows else (), rows[:ROWS_SHOWN], False, "  (no rows)")


def show_changes(changes: Rows, moved: Rows) -> None:
    """What changed in the lab, and what that did to the ranking."""
    seen = [{**row, "seen_at": f"{row['observed_at']:%H:%M:%S}", "port": row["port"] or "", "change": row["kind"]} for row in changes]
    print_rows("What changed (times in UTC)", ("seen_at", "address", "port", "change", "summary"), seen, False, "Nothing changed.")
    ranking = [{**row, "risk": f"{row['risk']:.0f}", "places": _places(row)} for row in moved]
    columns = ("moved", "rank", "risk", "title", "places")
    print_rows("What that did to the ranking", columns, ranking, False, "The ranking is as it was.")


def _places(row: dict[str, Any]) -> str:
    return ", ".join(row["places"][:4]) + (f" and {len(row['places']) - 4} more" if len(row["places"]) > 4 else "")


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
