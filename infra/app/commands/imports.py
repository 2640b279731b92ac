"""`driftline import`: what other scanners found, as observations of a zone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import typer
from pydantic import ValidationError

from infra.app.output import count, print_json, progress, tell
from infra.app.people import now, publisher
from infra.core.errors import BadInput
from infra.core.settings import load_settings
from producers.auditing import audit, local_actor
from producers.grants.wording import parse_past
from producers.imports.looks import Import, looks
from producers.imports.opening import Scanner, items, sha256_of
from producers.imports.scanfile import HostSeen, ScanInfo
from schemas.events.observations import HostObservation, SweepResult
from schemas.ids import subnet_key
from schemas.wording import what_is_wrong

app = typer.Typer(help="Import what other scanners found, as observations of a zone.", no_args_is_help=True)
AHEAD = timedelta(minutes=5)
"""A file may be from a clock that is so much ahead. What is later would count as newer than every look to come."""
FLUSH_EVERY = 2000
FILES = typer.Argument(help="Files that the scanner wrote.")
ZONE = typer.Option("default", "--zone", help="The zone that was scanned.")
AT = typer.Option(None, "--at", help="When the scan was, where the file does not say: 2027-01-31T18:00Z, '2d ago'.")
RECALL = typer.Option(
    0.0, "--recall", min=0.0, max=1.0, help="The share of open ports that you say the scan found; below 0.9 its silence closes nothing."
)
PARTIAL = typer.Option(False, "--partial", help="Take what a scan that was interrupted wrote.")
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("nmap")
def import_nmap(
    files: list[Path] = FILES, zone: str = ZONE, at: str = AT, recall: float = RECALL, partial: bool = PARTIAL, as_json: bool = JSON
) -> None:
    """Import nmap's XML (-oX). All files are read to their ends before anything is written; a file imported twice changes nothing."""
    _import("nmap", files, zone, at, recall, partial, as_json)


@app.command("masscan")
def import_masscan(
    files: list[Path] = FILES, zone: str = ZONE, at: str = AT, recall: float = RECALL, partial: bool = PARTIAL, as_json: bool = JSON
) -> None:
    """Import masscan's XML (-oX) or JSON (-oJ, -oD). They say what answered, not what was scanned: nothing else counts as probed."""
    _import("masscan", files, zone, at, recall, partial, as_json)


@app.command("naabu")
def import_naabu(
    files: list[Path] = FILES, zone: str = ZONE, at: str = AT, recall: float = RECALL, partial: bool = PARTIAL, as_json: bool = JSON
) -> None:
    """Import naabu's JSON lines (-json). They say what answered, not what was scanned: nothing else counts as probed."""
    _import("naabu", files, zone, at, recall, partial, as_json)


def _import(scanner: Scanner, files: list[Path], zone: str, at: str | None, recall: float, partial: bool, as_json: bool) -> None:
    settings, moment = load_settings(), now()
    if zone not in settings.zones:
        raise BadInput(f"There is no zone '{zone}'.", f"The zones are {', '.join(settings.zones)} (setting 'zones').")
    when = int(parse_past(at, moment).timestamp() * 1000) if at else None
    wanted = [(file, Import(zone, file.name, sha256_of(file), recall, when)) for file in files]
    found = [(file, what, _counted(file, _events(file, scanner, what, partial), moment)) for file, what in wanted]
    with publisher(settings) as outlet, progress() as display:
        for file, what, tally in found:
            task, sent = display.add_task(plain_name(file), total=tally.events), 0
            try:
                for event in _events(file, scanner, what, partial):
                    place = subnet_key(zone, event.subnet)
                    outlet.publish("probes", place, event, route=place)
                    sent += 1
                    if sent % FLUSH_EVERY == 0 or sent == tally.events:
                        outlet.flush()
                        display.update(task, completed=sent)
            finally:  # also when it was ended by Ctrl-C: what went out is on record
                actor = local_actor()
                extent = tally.words() if sent == tally.events else f"{sent} of {tally.events} records"
                detail = f"sha256 {what.sha256}, zone {zone}, {extent}, recall {recall:g}, run {what.run_id}"
                outlet.publish("audit", actor.name, audit(actor, f"import.{scanner}", file.name, detail, moment))
            if sha256_of(file) != what.sha256:
                raise BadInput(f"{file} changed while it was imported.", "Import it again when it is written.")
    for file, _, tally in found:
        tell(f"{file}: {tally.words()} imported into zone {zone}.")
    if as_json:
        print_json(
            [{"file": str(file), "sha256": what.sha256, "run_id": what.run_id, "zone": zone, **tally.said()} for file, what, tally in found]
        )


@dataclass(slots=True)
class Tally:
    """What a file holds for us."""

    units: int = 0
    events: int = 0
    hosts: int = 0
    services: int = 0

    def words(self) -> str:
        """In words."""
        return f"{count(self.hosts, 'host')} with {count(self.services, 'open port')} in {count(self.units, 'unit')}"

    def said(self) -> dict[str, int]:
        """For programs."""
        return {"units": self.units, "hosts": self.hosts, "services": self.services}


def _events(file: Path, scanner: Scanner, what: Import, partial: bool) -> Iterator[SweepResult | HostObservation]:
    """What a file becomes. Raises BadInput where it can't be read, and where it holds what no event may."""
    read = items(file, scanner, partial)
    try:
        info = next(read, None)
        if isinstance(info, ScanInfo):
            yield from looks(info, (one for one in read if isinstance(one, HostSeen)), what)
    except (ValueError, OverflowError) as error:  # a time that no calendar has
        words = what_is_wrong(error) if isinstance(error, ValidationError) else str(error)
        raise BadInput(f"{file} can't be imported: {words}.", "Nothing of it was taken.") from None


def _counted(file: Path, events: Iterable[SweepResult | HostObservation], moment: datetime) -> Tally:
    """Make all events once without publishing them, so that a file that turns out bad at its end changes nothing."""
    tally, unit = Tally(), ""
    for event in events:
        tally.events += 1
        if isinstance(event, SweepResult):
            tally.units += event.unit_id != unit
            unit = event.unit_id
            latest = event.finished_at
        else:
            tally.hosts += 1
            tally.services += len(event.services)
            latest = event.observed_at
        if latest > moment + AHEAD:
            raise BadInput(
                f"{file} is from the future ({latest:%Y-%m-%d %H:%M}Z).",
                "Such times would hide all later looks: mend the clock of the machine that scanned.",
            )
    return tally


def plain_name(file: Path) -> str:
    """A file's name for the progress bar, whatever signs it holds."""
    return "".join(one for one in file.name if one.isprintable())[:40]
