"""`driftline campaign`: standing wishes to look at targets, once, by the clock, or all the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from confluent_kafka import Message

from infra.app.output import count, print_fields, print_json, print_rows, tell
from infra.app.people import now, publisher, read_table, write
from infra.app.probe_names import check_probes
from infra.core.errors import BadInput
from infra.core.settings import Settings, load_settings
from infra.kafka.client import Publisher, key_of, read_whole, value_of
from producers.auditing import local_actor
from producers.campaigns.running import CampaignForm, Office, Verb, create_campaign, list_campaigns, show_campaign, steer_campaign
from producers.inventory.expecting import expecting
from producers.scheduler.due import Fired, next_slot
from producers.scheduler.firing import TICKS
from schemas.events.targets import Cadence, CadenceKind, Campaign

app = typer.Typer(help="Campaigns: create, list, show, start, pause, stop.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("create")
def create(
    campaign_id: str = typer.Argument(help="Its name."),
    targets: list[str] = typer.Option(..., "--target", "-t", help="Address, CIDR, range or name; may be repeated."),  # noqa: B008
    ports: str = typer.Option(None, "--ports", "-p", help="TCP ports; default: the planner's list."),
    probes: list[str] = typer.Option([], "--probe", help="Only these probes; may be repeated."),  # noqa: B008
    cron: str = typer.Option(None, "--cron", help="When, UTC, e.g. '0 3 * * *'."),
    every: int = typer.Option(None, "--every", min=1, max=366 * 86_400, help="All the time, a look each so many seconds."),
    zone: str = typer.Option("default", "--zone"),
    grant_id: str = typer.Option(None, "--grant", help="Probe under this grant only."),
    expect: str = typer.Option(None, "--expect", help="Services that should be there, e.g. 'tcp/443 tcp/22'; none: none at all."),
    replace: bool = typer.Option(False, "--replace", help="Replace the campaign of this name and start it anew."),
    as_json: bool = JSON,
) -> None:
    """Create a campaign and start it. Without --cron or --every it looks once.

    What --expect says goes into the inventory, for each of the targets; 'driftline inventory withdraw' takes it back.
    """
    if cron and every:
        raise BadInput("A campaign goes by --cron or by --every, not by both.", "Leave one out.")
    check_probes(probes)
    kind = CadenceKind.CRON if cron else CadenceKind.CONTINUOUS if every else CadenceKind.ONCE
    form = CampaignForm(
        campaign_id, tuple(targets), Cadence(kind=kind, cron=cron, every_seconds=every), zone, ports, tuple(probes), grant_id
    )
    settings = load_settings()
    known = read_table(settings, "inventory") if expect is not None else {}
    expected = expecting(targets, zone, expect, known, local_actor().name) if expect is not None else {}
    with publisher(settings) as outlet:
        campaign = create_campaign(form, _office(settings, outlet), now(), replace=replace)
        for key, record in expected.items():
            write(outlet, "inventory", key, record, "inventory.set")
    if as_json:
        print_json(campaign)
    tell(f"Campaign {campaign.campaign_id} is {campaign.state.value}: {count(len(campaign.targets), 'target')}, {kind.value}.")


@app.command("list")
def list_all(as_json: bool = JSON) -> None:
    """Show every campaign and when it is due next."""
    settings = load_settings()
    campaigns = list_campaigns(read_table(settings, "campaigns"))  # it says at once if there is no Kafka
    fired = _fired(settings)
    rows = [_row(one, fired) for one in campaigns]
    columns = ("campaign_id", "state", "cadence", "next", "targets", "ports", "zone", "started")
    print_rows("campaigns", columns, rows, as_json, "No campaign. See 'driftline campaign create --help'.")


@app.command("show")
def show(campaign_id: str, as_json: bool = JSON) -> None:
    """Show one campaign."""
    settings = load_settings()
    print_fields(campaign_id, _row(show_campaign(campaign_id, read_table(settings, "campaigns")), _fired(settings)), as_json)


@app.command("start")
def start(campaign_id: str) -> None:
    """Start it, or start it anew."""
    _steer(campaign_id, "start")


@app.command("pause")
def pause(campaign_id: str) -> None:
    """Push none of its targets until it is started again."""
    _steer(campaign_id, "pause")


@app.command("stop")
def stop(campaign_id: str) -> None:
    """End it."""
    _steer(campaign_id, "stop")


def _steer(campaign_id: str, verb: Verb) -> None:
    settings = load_settings()
    with publisher(settings) as outlet:
        campaign = steer_campaign(campaign_id, verb, _office(settings, outlet), now())
    tell(f"Campaign {campaign.campaign_id} is {campaign.state.value}.")


def _office(settings: Settings, outlet: Publisher) -> Office:
    campaigns = {key: one for key, one in read_table(settings, "campaigns").items() if isinstance(one, Campaign)}
    return Office(local_actor(), settings.zones, campaigns, outlet.publish)


def _fired(settings: Settings) -> dict[str, Fired]:
    """What the scheduler remembers of each campaign."""
    found: dict[str, Fired] = {}

    def take(message: Message) -> None:
        value = value_of(message)
        if value and key_of(message) != TICKS:
            found[key_of(message)] = Fired.of(value)

    read_whole(settings, "state.scheduler", take)
    return found


def _row(one: Campaign, fired: Mapping[str, Fired]) -> dict[str, Any]:
    cadence = one.cadence
    try:
        due: object = next_slot(one, fired.get(one.campaign_id), now())
    except ValueError as error:
        due = f"never: {error}"
    said = cadence.cron or (f"every {cadence.every_seconds} s" if cadence.every_seconds else cadence.kind.value)
    return {**one.model_dump(mode="json"), "cadence": said, "next": due}
