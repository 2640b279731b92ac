"""State of an asset, and the changes of it. An asset is one address in one zone."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.events.base import Event, Fraction, Port, PortRange, Timestamp, Transport
from schemas.events.observations import Hop, ServiceObservation


class ServiceStatus(StrEnum):
    """Open; suspected (a look found it closed or silent, confirmation is asked for); closed."""

    OPEN = "open"
    SUSPECTED = "suspected"
    CLOSED = "closed"


class VoteKind(StrEnum):
    """How a known service was missed."""

    CLOSED = "closed"
    SILENT = "silent"


class Vote(Event):
    """One unit's word against a known service."""

    unit_id: str
    kind: VoteKind
    at: Timestamp


class ServiceState(Event):
    """One port of an asset, folded from all that was seen of it. `transitions` are the recent openings and closings."""

    port: Port
    transport: Transport = Transport.TCP
    status: ServiceStatus
    seen: ServiceObservation | None = None
    first_seen: Timestamp
    last_seen: Timestamp
    votes: tuple[Vote, ...] = ()
    transitions: tuple[Timestamp, ...] = ()
    flapping: bool = False
    unit_id: str = Field("", description="the unit that saw it last")
    baseline: bool = Field(False, description="the first look that anyone took at this port found it open, and it has been since")


class AssetState(Event):
    """The fold of all observations of one address. `revision` grows by one with every change that is told."""

    zone: str
    address: str
    subnet: str
    revision: int = 0
    up: bool = True
    names: tuple[str, ...] = ()
    services: tuple[ServiceState, ...] = ()
    path: tuple[Hop, ...] | None = None
    first_seen: Timestamp
    last_seen: Timestamp
    last_looked: Timestamp
    recall: Fraction = 1.0


class LookedAt(Event):
    """Ports of addresses (as networks, each within the subnet) that were looked at at least once."""

    transport: Transport = Transport.TCP
    addresses: tuple[str, ...]
    ports: tuple[PortRange, ...]


class SubnetLooks(Event):
    """What of a subnet was ever looked at, so that a service that opened since can be told from one that was always there.

    `full`: there are too many addresses to remember; all of the subnet counts as looked at.
    """

    zone: str
    subnet: str
    looked: tuple[LookedAt, ...] = ()
    full: bool = False


class ChangeKind(StrEnum):
    """What may happen to an asset."""

    SERVICE_OPENED = "service_opened"
    SERVICE_CLOSED = "service_closed"
    SERVICE_CHANGED = "service_changed"
    CERTIFICATE_CHANGED = "certificate_changed"
    SERVICE_FLAPPING = "service_flapping"
    HOST_UP = "host_up"
    HOST_DOWN = "host_down"
    PATH_CHANGED = "path_changed"
    SUSPECTED_IMPACT = "suspected_impact"


class AssetChange(Event):
    """One thing that changed on one asset. Its id is a hash of asset, revision, kind, port and what it became."""

    change_id: str
    kind: ChangeKind
    zone: str
    address: str
    subnet: str
    revision: int
    port: int = Field(0, ge=0, le=65535, description="0: the host, not a service")
    transport: Transport = Transport.TCP
    before: ServiceObservation | None = None
    after: ServiceObservation | None = None
    names: tuple[str, ...] = ()
    path_before: tuple[str, ...] = ()
    path_after: tuple[str, ...] = ()
    summary: str
    evidence_ids: tuple[str, ...] = ()
    observed_at: Timestamp
    baseline: bool = Field(False, description="the service was open when its port was looked at for the first time")
