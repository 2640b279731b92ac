"""What the scheduler puts out at a moment: requests of the campaigns that are due, ticks, and what it remembers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from infra.core.ports import Emit
from producers.scheduler.due import Fired, due_slot, tick_minute
from producers.splitting import split
from schemas.events.operations import Tick
from schemas.events.targets import Campaign, Cause, TargetRequest
from schemas.ids import content_id

TICKS = "@ticks"


@dataclass(frozen=True, slots=True)
class Timetable:
    """The settings that count here: partitions to tick, length of a tick, and how many addresses one request may name."""

    partitions: int
    tick_seconds: int
    max_addresses: int


def firing(campaigns: Mapping[str, Campaign], state: Mapping[str, bytes], now: datetime, table: Timetable) -> Iterator[Emit]:
    """Everything that is due now, the new state last of each (topic `state.scheduler`, by campaign id; `@ticks` for the ticks)."""
    for campaign_id, campaign in campaigns.items():
        kept = state.get(campaign_id)
        slot = due_slot(campaign, Fired.of(kept) if kept else None, now)
        if slot is not None:
            yield from requests_of(campaign, slot, table.max_addresses)
            yield Emit("state.scheduler", campaign_id, raw=Fired(campaign.started, slot).to_bytes())
    for key in state.keys() - campaigns.keys() - {TICKS}:
        yield Emit("state.scheduler", key)  # the campaign was deleted: one of the same name starts afresh
    minute = tick_minute(now, table.tick_seconds)
    last = state.get(TICKS)
    if last is None or minute > datetime.fromisoformat(last.decode()):
        for partition in range(table.partitions):
            yield Emit("ticks", str(partition), Tick(partition=partition, minute=minute), partition=partition)
        yield Emit("state.scheduler", TICKS, raw=minute.isoformat().encode())


def requests_of(campaign: Campaign, slot: datetime, max_addresses: int) -> Iterator[Emit]:
    """A campaign's targets as requests, with ids that are the same whoever fires this slot, and however often."""
    for part, targets in enumerate(split(campaign.targets, max_addresses)):
        request = TargetRequest(
            request_id=content_id("campaign", campaign.campaign_id, campaign.started, slot.isoformat(), part),
            zone=campaign.zone,
            targets=targets,
            ports=campaign.ports,
            probes=campaign.probes,
            grant_id=campaign.grant_id,
            campaign_id=campaign.campaign_id,
            cause=Cause.CAMPAIGN,
            requested_by=campaign.changed_by,
        )
        yield Emit("targets", request.request_id, request)
