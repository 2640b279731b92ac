"""`driftline targets sync`: a source's full snapshot into the inventory, and what is new in it to the front door."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from infra.app.output import count, print_json, tell
from infra.app.people import now, publisher, read_table
from infra.core.errors import BadInput, Refused
from infra.core.settings import Settings, load_settings
from infra.kafka.client import Publisher
from producers.auditing import audit, local_actor
from producers.inventory.members import Snapshot
from producers.inventory.snapshots import read_snapshot
from producers.inventory.syncing import Plan, plan
from producers.targets.pushing import PushOptions, PushReport, push
from producers.targets.reading import Manner
from schemas.events.context import InventoryRecord
from schemas.ids import content_id
from schemas.portset import parse_port_sets

SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOOKS = ("new", "all", "none")
MOST_TOLD = 10
FLUSH_EVERY = 10_000


def sync_targets(
    files: list[Path] = typer.Argument(help="JSON of NetBox's API, kubectl get … -o json, or aws ec2 describe-…; together all members."),  # noqa: B008
    source: str = typer.Option(..., "--source", help="Whose snapshot this is, e.g. netbox; what it no longer names is withdrawn."),
    zone: str = typer.Option("default", "--zone", help="The zone from which the members are reached."),
    look: str = typer.Option("new", "--look", help="Which members to push as targets now: new (or with new services), all, none."),
    ports: str = typer.Option(None, "--ports", "-p", help="Ports of those targets; default: the planner's list."),
    accept_shrink: str = typer.Option("", "--accept-shrink", help="Your name, if the source really lost more than a fifth of its members."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would change."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Keep owners, criticality, expected services and targets in step with a source, by its full snapshot.

    A broken snapshot changes nothing (exit code 2); one that lost more than a fifth of its members waits for a person's word (4).
    """
    settings = load_settings()
    _check(settings, source, zone, look, ports)
    snapshot, actor = read_snapshot(files), local_actor()
    known = read_table(settings, "inventory")
    found = plan(known, snapshot.members, source, zone, actor.name)
    if not snapshot.members and not found.before:
        raise BadInput(f"The snapshot of '{source}' holds no member.", "Check what was asked of the source.")
    if found.shrank and not accept_shrink.strip() and not dry_run:
        raise Refused(
            f"The snapshot of '{source}' has {count(found.now, 'member')} where there were {found.before}: more than a fifth is gone.",
            "Nothing was changed. If that is right, run it again with --accept-shrink 'YOUR NAME'.",
        )
    report = PushReport()
    if not dry_run:
        with publisher(settings) as outlet:
            report = _look(settings, outlet, found, snapshot, source, Manner(zone, ports), look)
            _write(outlet, found, report, source, zone, accept_shrink.strip())
    _say(found, snapshot, report, dry_run)
    if as_json:
        print_json(_said(found, snapshot, report, source, zone, dry_run))


def _check(settings: Settings, source: str, zone: str, look: str, ports: str | None) -> None:
    if not SOURCE.fullmatch(source):
        raise BadInput(f"'{source}' is no name of a source.", "Use letters, digits, dots and dashes, e.g. netbox.")
    if zone not in settings.zones:
        raise BadInput(f"There is no zone '{zone}'.", f"The zones are {', '.join(settings.zones)} (setting 'zones').")
    if look not in LOOKS:
        raise BadInput(f"'{look}' is no choice of members.", f"Choose one of {', '.join(LOOKS)}.")
    if ports is not None:
        try:
            parse_port_sets(ports)
        except ValueError as error:
            raise BadInput(str(error), "Write ports as 22,80-90.") from None


def _look(settings: Settings, outlet: Publisher, found: Plan, snapshot: Snapshot, source: str, manner: Manner, look: str) -> PushReport:
    """Push targets like anyone's, before the records are written: a sync that dies in between pushes the same requests again."""
    chosen: tuple[str, ...] = ()
    if look == "new":
        chosen = found.fresh
    elif look == "all":
        chosen = tuple(sorted(network for network, one in snapshot.members.items() if one.target and network not in found.others))
    when = now().isoformat() if look == "all" else ""
    name = content_id("sync", source, manner.zone, when, *chosen)
    options = PushOptions(name, manner, "text", f"sync:{source}", max_addresses=settings.planner.max_addresses, zones=settings.zones)
    report = push(chosen, outlet.publish, options)
    outlet.flush()
    return report


def _write(outlet: Publisher, found: Plan, report: PushReport, source: str, zone: str, accepted_by: str) -> None:
    changes: list[tuple[str, InventoryRecord | None]] = [*found.records.items(), *((key, None) for key in found.withdrawn)]
    for number, (key, record) in enumerate(changes, 1):
        outlet.publish("inventory", key, record)
        if number % FLUSH_EVERY == 0:
            outlet.flush()
    if not (found.records or found.withdrawn or report.requests):
        return
    actor = local_actor()
    detail = f"zone {zone}: {len(found.records)} set, {len(found.withdrawn)} withdrawn, {found.now} members where there were {found.before}"
    if report.requests:
        detail += f", {count(report.accepted, 'target')} pushed"
    if found.shrank:
        detail += f"; that it shrank so much was accepted by {accepted_by}"
    outlet.publish("audit", actor.name, audit(actor, "targets.sync", source, detail, now()))


def _say(found: Plan, snapshot: Snapshot, report: PushReport, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    tell(
        f"{count(found.now, 'member')}: {len(found.records)} {would}set, {len(found.withdrawn)} {would}withdrawn; "
        f"{count(report.accepted, 'target')} pushed."
    )
    for network, who in list(found.others.items())[:MOST_TOLD]:
        tell(f"{network} was left as {who} said it.")
    if len(found.others) > MOST_TOLD:
        tell(f"and {len(found.others) - MOST_TOLD} more.")
    for words in snapshot.left_out:
        tell(f"Left out: {words}.")
    for one in report.rejected[:MOST_TOLD]:
        tell(f"Not pushed: {one.text}: {one.reason}")
    if dry_run and found.shrank:
        tell("It shrank by more than a fifth: without --accept-shrink it would be held.")


def _said(found: Plan, snapshot: Snapshot, report: PushReport, source: str, zone: str, dry_run: bool) -> dict[str, object]:
    return {
        "source": source,
        "zone": zone,
        "members": found.now,
        "before": found.before,
        "set": sorted(found.records),
        "withdrawn": list(found.withdrawn),
        "kept_by_others": dict(found.others),
        "left_out": list(snapshot.left_out),
        "targets": report.accepted,
        "targets_rejected": report.rejected_total,
        "dry_run": dry_run,
    }
