"""Creating campaigns, and starting, pausing and stopping them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cronsim import CronSim, CronSimError

from infra.core.errors import BadInput
from producers.auditing import Actor, Publish, audit, publish_audited
from schemas.events.base import Event
from schemas.events.targets import Cadence, CadenceKind, Campaign, CampaignState
from schemas.portset import parse_port_sets
from schemas.targeting import parse_target

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
MOST_TARGETS = 20_000
Verb = Literal["start", "pause", "stop"]
STATES: dict[Verb, CampaignState] = {"start": CampaignState.ACTIVE, "pause": CampaignState.PAUSED, "stop": CampaignState.STOPPED}


@dataclass(frozen=True, slots=True)
class CampaignForm:
    """What a person fills in. Ports as text (`22,80-90`), None: the planner's default ones."""

    campaign_id: str
    targets: tuple[str, ...]
    cadence: Cadence
    zone: str = "default"
    ports: str | None = None
    probes: tuple[str, ...] = ()
    grant_id: str | None = None
    state: CampaignState = CampaignState.ACTIVE


@dataclass(frozen=True, slots=True)
class Office:
    """Where campaigns are run: who is there, which zones there are, the campaigns so far, and the way out."""

    actor: Actor
    zones: tuple[str, ...]
    campaigns: Mapping[str, Campaign]
    publish: Publish


def create_campaign(form: CampaignForm, office: Office, now: datetime, *, replace: bool = False) -> Campaign:
    """Check and publish a campaign; `replace` overwrites one of the same id and starts it anew. Raises BadInput for a wrong form."""
    _check(form, office)
    before = office.campaigns.get(form.campaign_id)
    if before is not None and not replace:
        raise BadInput(f"There is a campaign '{form.campaign_id}' already.", "Choose another id, or replace it with --replace.")
    campaign = Campaign(
        campaign_id=form.campaign_id,
        zone=form.zone,
        targets=form.targets,
        ports=form.ports,
        probes=form.probes,
        cadence=form.cadence,
        state=form.state,
        grant_id=form.grant_id,
        started=before.started + 1 if before else 1,
        changed_by=office.actor.name,
        changed_at=now,
    )
    return _publish(campaign, office, "campaign.replace" if before else "campaign.create", f"{len(form.targets)} targets", now)


def steer_campaign(campaign_id: str, verb: Verb, office: Office, now: datetime) -> Campaign:
    """Start, pause or stop a campaign. A start makes it due at once (a cron one at its next time). Raises BadInput if there is none."""
    before = show_campaign(campaign_id, office.campaigns)
    started = before.started + 1 if verb == "start" else before.started
    update = {"state": STATES[verb], "started": started, "changed_by": office.actor.name, "changed_at": now}
    return _publish(Campaign.model_validate(before.model_dump() | update), office, f"campaign.{verb}", "", now)


def list_campaigns(campaigns: Mapping[str, Event]) -> list[Campaign]:
    """All campaigns by id."""
    return [one for _, one in sorted(campaigns.items()) if isinstance(one, Campaign)]


def show_campaign(campaign_id: str, campaigns: Mapping[str, Event]) -> Campaign:
    """One campaign. Raises BadInput if there is none."""
    found = campaigns.get(campaign_id)
    if not isinstance(found, Campaign):
        raise BadInput(f"There is no campaign '{campaign_id}'.", "See 'driftline campaign list'.")
    return found


def _publish(campaign: Campaign, office: Office, action: str, detail: str, now: datetime) -> Campaign:
    record = audit(office.actor, action, campaign.campaign_id, detail, now)
    publish_audited(office.publish, "campaigns", campaign.campaign_id, campaign, record)
    return campaign


def _check(form: CampaignForm, office: Office) -> None:
    if not NAME.fullmatch(form.campaign_id):
        raise BadInput(
            f"'{form.campaign_id}' is not a name for a campaign.", "Use small letters, digits, '.', '_' and '-', e.g. 'dmz-daily'."
        )
    if form.zone not in office.zones:
        raise BadInput(f"There is no zone '{form.zone}'.", f"The zones are {', '.join(office.zones)} (setting 'zones').")
    if not 1 <= len(form.targets) <= MOST_TARGETS:
        raise BadInput(f"A campaign has 1 to {MOST_TARGETS} targets, not {len(form.targets)}.", "Name networks, or divide it.")
    try:
        for target in form.targets:
            parse_target(target)
        if form.ports is not None:
            parse_port_sets(form.ports)
    except ValueError as error:
        raise BadInput(str(error), "Correct the campaign.") from None
    _check_cadence(form.cadence)


def _check_cadence(cadence: Cadence) -> None:
    if cadence.kind != CadenceKind.CRON:
        return
    try:
        CronSim(cadence.cron or "", datetime(2026, 1, 1))  # noqa: DTZ001  only whether it parses
    except CronSimError as error:
        raise BadInput(f"'{cadence.cron}' is not a cron expression: {error}.", "Write e.g. '0 3 * * *' for 03:00 UTC each day.") from None
