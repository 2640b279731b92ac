"""Work: what someone wants looked at, and the units that scanners take."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.events.base import Event, PortRange, Timestamp


class CadenceKind(StrEnum):
    """How often a campaign looks."""

    ONCE = "once"
    CRON = "cron"
    CONTINUOUS = "continuous"
    FRESHNESS = "freshness"


class Cadence(Event):
    """`cron` needs an expression (UTC); `continuous` and `freshness` need the seconds between two looks."""

    kind: CadenceKind
    cron: str | None = None
    every_seconds: int | None = Field(None, ge=1, le=366 * 86_400)


class CampaignState(StrEnum):
    """Whether a campaign's targets are pushed."""

    ACTIVE = "active"
    PAUSED = "paused"
    STOPPED = "stopped"


class Campaign(Event):
    """A standing wish to look at targets. `started` counts explicit starts: a higher one makes a `once` campaign due again."""

    campaign_id: str = Field(min_length=1, max_length=128)
    zone: str = "default"
    targets: tuple[str, ...] = Field(min_length=1)
    ports: str | None = None
    probes: tuple[str, ...] = ()
    cadence: Cadence
    state: CampaignState = CampaignState.ACTIVE
    grant_id: str | None = None
    started: int = Field(1, ge=0)
    changed_by: str
    changed_at: Timestamp


class Cause(StrEnum):
    """Why a target was pushed."""

    PUSHED = "pushed"
    CAMPAIGN = "campaign"
    CONFIRMATION = "confirmation"
    FOLLOW_UP = "follow_up"


class TargetRequest(Event):
    """The public intake: look at these addresses, CIDRs, ranges (`a-b`) or names. Ports as text (`22,80-90,U:53`); none: the default list.

    Empty `probes` means the default ones. `not_before` delays the look (a confirmation needs some time between two votes).
    """

    request_id: str = Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")
    zone: str = "default"
    targets: tuple[str, ...] = Field(min_length=1, max_length=10_000)
    ports: str | None = None
    probes: tuple[str, ...] = ()
    grant_id: str | None = None
    campaign_id: str | None = None
    cause: Cause = Cause.PUSHED
    requested_by: str = ""
    not_before: Timestamp | None = None


class Refusal(Event):
    """A target that was not planned, and why."""

    target: str
    reason: str


class Run(Event):
    """What became of one request: units planned, targets refused. What is done is counted from SweepResults."""

    run_id: str
    request_id: str
    campaign_id: str | None = None
    zone: str
    cause: Cause
    units: int
    addresses: int
    ports: int
    excluded: int = 0
    refused: tuple[Refusal, ...] = ()
    started_at: Timestamp


class PinnedName(Event):
    """A name and the address that it stood for when the run began."""

    name: str
    address: str


class WorkUnit(Event):
    """At most one subnet × a set of ports × a probe set, under exactly one grant, done in at most 60 s at its budget."""

    unit_id: str
    run_id: str
    campaign_id: str | None = None
    zone: str
    subnet: str
    addresses: tuple[str, ...]
    names: tuple[PinnedName, ...] = ()
    tcp_ports: tuple[PortRange, ...] = ()
    udp_ports: tuple[PortRange, ...] = ()
    probes: tuple[str, ...]
    grant_id: str
    grant_revision: int
    packets_per_second: int = Field(ge=1)
    per_host_per_second: int = Field(ge=1)
    cause: Cause
    planned_at: Timestamp
    not_before: Timestamp | None = None
    expires_at: Timestamp
