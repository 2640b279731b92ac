"""How commands print: tables for people, one JSON document or JSON lines for programs, logs and progress on standard error.

Whatever a scanned host, a stranger's record or a server said is printed as plain text: no markup, no control characters.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape as without_markup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

MOST_LINES, WIDE_ENOUGH, LONG_WORD = 8, 24, 30
"""A table is told as records where a cell would take more lines than the first, in a column narrower than the second, or a word be broken
that is no longer than the third."""
UNBOUNDED = 1_000_000
BARS = "▁▂▃▄▅▆▇█"
RANK_STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan", "info": "dim"}


def err() -> Console:
    """The console for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def out() -> Console:
    """The console for results; wide when it is not a terminal, so that pipes get whole lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def rows_out() -> Console:
    """The console for rows: in a pipe or a file as wide as they are, so that nothing is cut, unless COLUMNS says otherwise."""
    return out() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(highlight=False, width=UNBOUNDED)


def tell(text: str, style: str | None = None) -> None:
    """One note or error on standard error, as plain text; long lines are the terminal's to wrap, so that they can be copied."""
    err().print(plain(text), markup=False, emoji=False, soft_wrap=True, style=style)


def to_json(value: object) -> str:
    """JSON text with times in ISO form and models as objects; what no terminal should get raw is escaped, NaN is null."""
    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), default=_plain, ensure_ascii=False, allow_nan=False)
    return text if text.isprintable() else "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


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
        tell(empty)
        return
    table = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        cells = [_cell(column, row.get(column)) for row in found]
        least = max(_narrowest(cell) for cell in (_heading(title, column), *cells))
        table.add_column(_heading(title, column), overflow="fold", min_width=least)
    for row in found:
        table.add_row(*(_cell(column, row.get(column)) for column in columns))
    console = rows_out()
    if fits(table, console):
        console.print(_narrowed(table, console))
    else:
        for number, row in enumerate(found, 1):
            console.print(_record(title, f"{number} of {len(found)}", columns, row), "")


def fits(table: Table, console: Console) -> bool:
    """Whether the console is wide enough to break no word of the table, nor cut a cell to a ribbon."""
    return sum((column.min_width or 1) + 3 for column in table.columns) + 1 <= console.width


def _narrowed(table: Table, console: Console) -> Table:
    """The table with widths of its own where rich would cut it: what rich takes from the widest columns ignores their least widths."""
    lines = itertools.islice(Segment.split_lines(console.render(table)), 3)  # the title, and lines of the table
    if max(map(Segment.get_line_length, lines)) <= console.width:
        return table
    widths = [column.min_width or 1 for column in table.columns]
    most = [max(console.measure(cell).maximum for cell in (column.header, *column.cells)) for column in table.columns]
    for _ in range(console.width - 1 - sum(width + 3 for width in widths)):
        widest = max(range(len(widths)), key=lambda one: most[one] / widths[one])
        widths[widest] += 1
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    return table


def _narrowest(cell: object) -> int:
    words = max((len(word) for word in str(cell).split()), default=0)
    return max(1, min(words, LONG_WORD), min(len(str(cell)) // MOST_LINES, WIDE_ENOUGH))


def _heading(title: str, column: str) -> Text:
    """A column's name in words; as it is where the table has no title, which is a query's answer: one may want to type it again."""
    return Text(plain(column.replace("_", " ") if title else column))


def _record(title: str, number: str, columns: Sequence[str], row: Mapping[str, Any]) -> Table:
    """A row for a narrow terminal: a column a line."""
    grid = Table(
        title=f"{title} {number}" if title else f"row {number}",
        title_justify="left",
        title_style="bold",
        show_header=False,
        box=None,
        pad_edge=False,
    )
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for column in columns:
        grid.add_row(_heading(title, column), _cell(column, row.get(column)))
    return grid


def print_fields(title: str, document: Mapping[str, Any], as_json: bool) -> None:
    """One thing whole: a JSON object, or a table of field and content."""
    if as_json:
        print_json(document)
        return
    print_rows(title, ("field", "content"), [{"field": name, "content": value} for name, value in document.items()], False, "")


def count(number: int, thing: str) -> str:
    """`1 target`, `2 targets`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def progress() -> Progress:
    """A display of how many of how many, on standard error; nothing where that is no terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err(), transient=True, disable=not sys.stderr.isatty())


def sparkline(values: Sequence[float]) -> str:
    """A row of bars, scaled to the largest value."""
    top = max(values, default=0)
    return "".join(BARS[min(7, int(value / top * 7.999))] if top else BARS[0] for value in values)


def plain(text: str) -> str:
    """Text without control characters, which could move the cursor, recolour or retitle a terminal, or turn its writing around."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "·" for sign in text)


def escape(text: str) -> str:
    """Text from outside, to be put into a string of rich's markup."""
    return without_markup(plain(text))


def _cell(column: str, value: object) -> Text:
    """A cell is Text, never markup."""
    return Text(plain(_said(value)), style=RANK_STYLES.get(str(value), "") if column == "rank" else "")


def _said(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        text = f"{value:.3f}".rstrip("0")
        return f"{text}0" if text.endswith(".") else text
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(one) for one in value)
    return str(value)


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _finite(value: object) -> object:
    """The same without NaN and infinity, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
