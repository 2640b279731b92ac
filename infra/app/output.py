"""How commands print: tables for people, one JSON document or JSON lines for programs, logs and progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

BARS = "▁▂▃▄▅▆▇█"
RANK_STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan", "info": "dim"}


def err() -> Console:
    """The console for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def out() -> Console:
    """The console for results; wide when it is not a terminal, so that pipes get whole lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def to_json(value: object) -> str:
    """JSON text with times in ISO form and models as objects."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def print_json(value: object) -> None:
    """One document on standard output."""
    sys.stdout.write(to_json(value) + "\n")
    sys.stdout.flush()


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], as_json: bool, empty: str) -> None:
    """Rows as a table, or one JSON array; `empty` says what to do when there are none."""
    found = list(rows)
    if as_json:
        print_json(found)
        return
    if not found:
        err().print(empty)
        return
    table = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in found:
        table.add_row(*(_cell(column, row.get(column)) for column in columns))
    out().print(table)


def sparkline(values: Sequence[float]) -> str:
    """A row of bars, scaled to the largest value."""
    top = max(values, default=0)
    return "".join(BARS[min(7, int(value / top * 7.999))] if top else BARS[0] for value in values)


def _cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if column == "rank":
        return f"[{RANK_STYLES.get(str(value), '')}]{value}[/]"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    return escape(str(value))


def escape(text: str) -> str:
    """Text that may come from a hostile banner: no markup, no control characters."""
    clean = "".join(sign if sign.isprintable() or sign == "\n" else "·" for sign in text)
    return clean.replace("[", r"\[")


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
