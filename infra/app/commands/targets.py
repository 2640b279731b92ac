"""`driftline targets`: what to look at now."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from infra.app.commands.inventory_sync import sync_targets
from infra.app.commands.runs import Outcome, wait_for_requests
from infra.app.output import count, print_json, progress, tell
from infra.app.people import now, publisher
from infra.app.probe_names import check_probes, known_probes
from infra.core.errors import BadInput, Refused
from infra.core.settings import load_settings
from producers.auditing import audit, local_actor
from producers.targets.pushing import PushOptions, PushReport, push
from producers.targets.reading import Format, Manner, as_they_come, bounded_lines
from schemas.events.base import Event
from schemas.portset import parse_port_sets

app = typer.Typer(help="Targets: push what should be looked at.", no_args_is_help=True)
FORMATS: tuple[Format, ...] = ("auto", "text", "csv", "jsonl")


app.command("sync")(sync_targets)


@app.callback()
def targets() -> None:
    """Targets: push what should be looked at."""


@app.command("push")
def push_targets(
    targets: list[str] = typer.Argument(None, help="Addresses, CIDRs, ranges a-b, names; '-' or nothing: standard input."),  # noqa: B008
    file: Path = typer.Option(None, "--file", "-f", help="A file of targets: text, CSV with a header, or JSON lines."),  # noqa: B008
    form: str = typer.Option("auto", "--format", help="auto, text, csv or jsonl."),
    ports: str = typer.Option(
        None, "--ports", "-p", help="TCP ports, and UDP ports behind U:, e.g. 22,80-90,U:53,161; default: the planner's list, TCP only."
    ),
    probes: list[str] = typer.Option([], "--probe", help="Only these probes; may be repeated."),  # noqa: B008
    zone: str = typer.Option("default", "--zone"),
    grant_id: str = typer.Option(None, "--grant", help="Probe under this grant only."),
    push_id: str = typer.Option("", "--id", help="Name of this push; the same one again changes nothing."),
    wait: bool = typer.Option(False, "--wait", help="Then wait until all of it was looked at; exit code 4 if not all was."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Push targets. Bad lines are reported with their number and skipped, with exit code 2.

    With --wait the exit code is 4 if something was refused, or stopped before all of it was looked at.
    """
    settings = load_settings()
    if form not in FORMATS:
        raise BadInput(f"There is no format '{form}'.", f"The formats are {', '.join(FORMATS)}.")
    manner = Manner(zone, ports, tuple(probes), grant_id)
    _check_manner(manner, settings.zones)
    name, actor = push_id or secrets.token_hex(8), local_actor()
    most = settings.planner.max_addresses
    options = PushOptions(name, manner, form, actor.name, max_addresses=most, zones=settings.zones, probes=known_probes)
    ids: list[str] = []

    def publish(topic: str, key: str, event: Event) -> None:
        outlet.publish(topic, key, event)
        if wait:
            ids.append(key)

    with _source(targets, file) as lines, progress() as display, publisher(settings) as outlet:
        task = display.add_task("targets", total=None)
        report, told = PushReport(), 0

        def tell_on(latest: PushReport) -> None:
            nonlocal report, told
            report = latest
            display.update(task, completed=latest.accepted)
            for one in latest.rejected[told:]:
                tell(f"line {one.line}: {one.text}: {one.reason}")
            told = len(latest.rejected)

        try:
            push(lines, publish, options, tell_on)
        finally:  # a stream may be ended by Ctrl-C: what went out is on record all the same
            if report.requests:
                detail = f"{count(report.accepted, 'target')} in {count(report.requests, 'request')}, zone {zone}"
                outlet.publish("audit", actor.name, audit(actor, "targets.push", name, detail, now()))
    said = {"accepted": report.accepted, "requests": report.requests, "rejected": report.rejected_total, "push_id": name}
    tell(
        f"{count(report.accepted, 'target')} pushed in {count(report.requests, 'request')}, {count(report.rejected_total, 'line')} skipped."
    )
    outcome = _wait(ids) if wait else None
    if outcome is not None:
        refused = [{"target": target, "reason": reason} for target, reason in outcome.refused]
        said |= {"request_ids": ids, "looked_at": outcome.looked_at, "stopped": outcome.stopped, "refused": refused}
    elif report.requests:
        tell("'driftline runs' shows how far they are and what was refused.")
    if as_json:
        print_json(said)
    if report.rejected_total or (outcome is not None and not outcome.whole()):
        sys.exit(BadInput.exit_code if report.rejected_total else Refused.exit_code)


def _wait(ids: list[str]) -> Outcome:
    try:
        outcome = wait_for_requests(ids)
    except KeyboardInterrupt:
        tell("The work goes on; 'driftline runs' shows how far it is.")
        raise
    outcome.tell()
    return outcome


def _check_manner(manner: Manner, zones: Sequence[str]) -> None:
    """Raise BadInput for a zone, ports or probes that do not exist: as options they would make every line a bad one."""
    if manner.zone not in zones:
        raise BadInput(f"There is no zone '{manner.zone}'.", f"The zones are {', '.join(zones)} (setting 'zones').")
    if manner.ports is not None:
        try:
            parse_port_sets(manner.ports)
        except ValueError as error:
            raise BadInput(str(error), "Write ports as 22,80-90.") from None
    check_probes(manner.probes)


@contextmanager
def _source(targets: list[str] | None, file: Path | None) -> Iterator[Iterable[str | None]]:
    if file is not None:
        try:
            with file.open(encoding="utf-8", errors="replace") as source:
                yield bounded_lines(source)
        except OSError as error:
            raise BadInput(f"{file} can't be read: {error.strerror}.", "Name a file of targets, or '-' for standard input.") from None
    elif targets and targets != ["-"]:
        yield targets
    else:
        if sys.stdin.isatty():
            tell("Reading targets from standard input, one a line; Ctrl-D ends it.")
        yield as_they_come(bounded_lines(sys.stdin))
