"""When a campaign is due. Pure: the time is passed in.

A slot is a moment at which a campaign is to fire, named by its time. Slots that passed while nobody watched are fired once, not each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronsim import CronSim, CronSimError

from schemas.events.targets import CadenceKind, Campaign, CampaignState

EVERY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Fired:
    """What is remembered of a campaign: the last slot that was fired, and which start it belonged to."""

    started: int
    slot: datetime

    def to_bytes(self) -> bytes:
        """As it is kept in the scheduler's state."""
        return json.dumps({"started": self.started, "slot": self.slot.isoformat()}).encode()

    @classmethod
    def of(cls, value: bytes) -> Fired:
        """From the scheduler's state. Raises ValueError for anything else."""
        try:
            plain = json.loads(value)
            return cls(int(plain["started"]), datetime.fromisoformat(plain["slot"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of a campaign: {error}") from None


def due_slot(campaign: Campaign, fired: Fired | None, now: datetime) -> datetime | None:
    """The slot to fire now, or None. Raises ValueError for a cron expression that is none."""
    if campaign.state != CampaignState.ACTIVE or campaign.started < 1 or now < campaign.changed_at:
        return None
    fresh = fired is None or fired.started < campaign.started
    kind = campaign.cadence.kind
    if kind == CadenceKind.ONCE:
        return campaign.changed_at if fresh else None
    if kind == CadenceKind.CRON:
        slot = _last_cron(campaign, now)
        begin = campaign.changed_at if fired is None else max(campaign.changed_at, fired.slot)
        return slot if slot is not None and slot > begin else None
    every = timedelta(seconds=campaign.cadence.every_seconds or EVERY_SECONDS)
    slot = campaign.changed_at + (now - campaign.changed_at) // every * every
    return slot if fresh or fired is None or slot > fired.slot else None


def next_slot(campaign: Campaign, fired: Fired | None, now: datetime) -> datetime | None:
    """When a campaign fires next: `now` if it is due, None if it does not fire any more. Raises ValueError for a wrong cron expression."""
    if due_slot(campaign, fired, now) is not None:
        return now
    if campaign.state != CampaignState.ACTIVE or campaign.started < 1 or campaign.cadence.kind == CadenceKind.ONCE:
        return None
    if campaign.cadence.kind == CadenceKind.CRON:
        return next(_cron(campaign, max(now, campaign.changed_at)), None)
    every = timedelta(seconds=campaign.cadence.every_seconds or EVERY_SECONDS)
    return campaign.changed_at + ((now - campaign.changed_at) // every + 1) * every


def tick_minute(now: datetime, seconds: int) -> datetime:
    """The last border of a tick that has passed: `now` cut to whole ticks since the epoch."""
    whole = int(now.timestamp()) // seconds * seconds
    return datetime.fromtimestamp(whole, now.tzinfo)


def _last_cron(campaign: Campaign, now: datetime) -> datetime | None:
    """The latest match at or before `now`."""
    border = now.replace(microsecond=0) + timedelta(seconds=1)
    return next(_cron(campaign, border, reverse=True), None)


def _cron(campaign: Campaign, start: datetime, *, reverse: bool = False) -> CronSim:
    try:
        return CronSim(campaign.cadence.cron or "", start, reverse=reverse)
    except CronSimError as error:
        raise ValueError(f"'{campaign.cadence.cron}' is not a cron expression: {error}") from None
