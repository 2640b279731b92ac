"""`driftline inventory`: whose an asset is and how much it matters."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from infra.app.output import count, print_rows, tell
from infra.app.people import now, publisher, read_table, write
from infra.core.errors import BadInput
from infra.core.settings import load_settings
from producers.auditing import audit, local_actor
from producers.inventory.members import expected_services, network_text
from schemas.events.context import InventoryRecord
from schemas.ids import subnet_key
from schemas.wording import what_is_wrong

app = typer.Typer(help="Owners and criticality of networks and addresses.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("push")
def push(file: Path = typer.Argument(help="CSV with a header, or JSON lines: zone, network, owner, criticality, tags, expected.")) -> None:  # noqa: B008
    """Publish owners, criticality and expected services. Findings of what they touch are ranked again at once; equal records are left."""
    settings, lines = load_settings(), _lines(file)
    bad = good = same = 0
    known = read_table(settings, "inventory")
    with publisher(settings) as outlet:
        for number, fields in lines:
            try:
                record = _record(fields, settings.zones)
                key = subnet_key(record.zone, record.network)
            except ValueError as error:
                bad += 1
                tell(f"{file}:{number}: {_reason(error)}")
                continue
            before = known.get(key)
            if isinstance(before, InventoryRecord) and before.model_copy(update={"changed_by": record.changed_by}) == record:
                same += 1
                continue
            write(outlet, "inventory", key, record, "inventory.set")
            known[key] = record
            good += 1
    unchanged = f"{same} left as they were, " if same else ""
    tell(f"{count(good, 'record')} pushed, {unchanged}{bad} skipped.")
    if bad:
        sys.exit(2)


@app.command("withdraw")
def withdraw(
    networks: list[str] = typer.Argument(help="Networks or addresses."),  # noqa: B008
    zone: str = typer.Option("default", "--zone"),
) -> None:
    """Take back what the inventory says of networks. What a source says comes back with its next 'targets sync'."""
    settings = load_settings()
    try:
        keys = [subnet_key(zone, network_text(one)) for one in networks]
    except ValueError as error:
        raise BadInput(f"{error}.", "Write networks as 198.18.0.0/24.") from None
    known = read_table(settings, "inventory")
    missing = [key for key in keys if key not in known]
    if missing:
        raise BadInput(f"The inventory says nothing of {missing[0].replace('|', ': ')}.", "'driftline inventory list' shows what it says.")
    with publisher(settings) as outlet:
        for key in keys:
            outlet.publish("inventory", key, None)
            actor = local_actor()
            outlet.publish("audit", actor.name, audit(actor, "inventory.withdraw", key, "", now()))
    tell(f"{count(len(keys), 'record')} withdrawn.")


@app.command("list")
def list_inventory(as_json: bool = JSON) -> None:
    """Show the inventory as it stands."""
    rows = [event.model_dump(mode="json") for event in read_table(load_settings(), "inventory").values()]
    print_rows(
        "inventory",
        ("zone", "network", "owner", "criticality", "tags", "expected", "source"),
        rows,
        as_json,
        "Empty. Fill it with 'driftline inventory push FILE'.",
    )


def _lines(file: Path) -> list[tuple[int, object]]:
    """What each line holds, with its number: a CSV row, or the text of a JSON line."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{file} can't be read: {error.strerror}.", "Name a CSV file with a header, or JSON lines.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} can't be read: it is not UTF-8 text ({error.reason}).", "Name a file of UTF-8 text.") from None
    if file.suffix == ".csv":
        reader = csv.DictReader(text.splitlines())
        try:
            return [(reader.line_num, row) for row in reader]
        except csv.Error as error:
            raise BadInput(f"{file}:{reader.line_num}: it is no CSV: {error}.", "Nothing was pushed.") from None
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _record(line: object, zones: Sequence[str]) -> InventoryRecord:
    """The record of a line, with its network and services as keys and rules compare them. Raises ValueError for a line that holds none."""
    try:
        fields = json.loads(line) if isinstance(line, str) else _of_csv(line) if isinstance(line, dict) else None
    except RecursionError:
        raise ValueError("the line is nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError('a line is an object such as {"network": "198.18.0.0/24", "owner": "web team"}')
    record = InventoryRecord.model_validate({**fields, "changed_by": local_actor().name, "source": ""})
    if record.zone not in zones:
        raise ValueError(f"there is no zone '{record.zone}'; the zones are {', '.join(zones)}")
    record.model_dump_json()  # raises for what no record can hold: half of a surrogate pair
    plain = {"network": network_text(record.network), "expected": expected_services(" ".join(record.expected))}
    return record.model_copy(update=plain)


def _of_csv(row: dict[str | None, Any]) -> dict[str, Any]:
    if None in row:
        raise ValueError("the line has more cells than the header")
    lists = ("tags", "expected")
    return {str(name): tuple(value.split()) if name in lists else value for name, value in row.items() if value}


def _reason(error: ValueError) -> str:
    return what_is_wrong(error) if isinstance(error, ValidationError) else str(error)
