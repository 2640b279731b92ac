"""`driftline inventory`: whose an asset is and how much it matters."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from pydantic import ValidationError

from infra.app.output import err, print_rows
from infra.app.people import publisher, write
from infra.core.errors import BadInput
from infra.core.settings import load_settings
from infra.kafka.client import read_table
from producers.auditing import local_actor
from schemas.events.context import InventoryRecord
from schemas.ids import subnet_key

app = typer.Typer(help="Owners and criticality of networks and addresses.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("push")
def push(file: Path = typer.Argument(help="CSV with a header, or JSON lines: zone, network, owner, criticality, tags, expected.")) -> None:  # noqa: B008
    """Publish owners and criticality; findings of what they touch are ranked again at once."""
    bad = count = 0
    with publisher(load_settings()) as outlet:
        for number, fields in _entries(file):
            try:
                record = InventoryRecord.model_validate({**fields, "changed_by": local_actor().name})
            except ValidationError as error:
                bad += 1
                first = error.errors()[0]
                err().print(f"{file}:{number}: {'.'.join(map(str, first['loc']))}: {first['msg']}", markup=False)
                continue
            write(outlet, "inventory", subnet_key(record.zone, record.network), record, "inventory.set")
            count += 1
    err().print(f"{count} records pushed, {bad} skipped.")
    if bad:
        sys.exit(2)


@app.command("list")
def list_inventory(as_json: bool = JSON) -> None:
    """Show the inventory as it stands."""
    rows = [event.model_dump(mode="json") for event in read_table(load_settings(), "inventory").values()]
    print_rows(
        "inventory",
        ("zone", "network", "owner", "criticality", "tags", "expected"),
        rows,
        as_json,
        "Empty. Fill it with 'driftline inventory push FILE'.",
    )


def _entries(file: Path) -> Iterator[tuple[int, dict[str, object]]]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} can't be read: {error}.") from None
    if file.suffix == ".csv":
        for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
            entry: dict[str, object] = {key: value for key, value in row.items() if value}
            for name in ("tags", "expected"):
                if name in entry:
                    entry[name] = tuple(str(entry[name]).split())
            yield number, entry
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise BadInput(f"{file}:{number} is not JSON: {error}.") from None
