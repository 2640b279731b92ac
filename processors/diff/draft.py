"""An asset while one record is folded into it, and the changes that are told of it. Lives for one fold only."""

from __future__ import annotations

from datetime import datetime, timedelta

from infra.core.settings import DifferSettings
from schemas.events.assets import AssetChange, AssetState, ChangeKind, ServiceState, ServiceStatus
from schemas.events.base import Transport
from schemas.events.observations import Hop, ServiceObservation
from schemas.ids import asset_key, content_id

Key = tuple[Transport, int]
MAX_SERVICES = 1000
DETAILS = 131_072
"""Bytes of details that are kept of one host; what comes beyond is kept without. With 1000 services a value stays below 512 KB."""
SLACK = 32_768
"""Details that are kept already may grow by so much together, lest a banner that varies takes them away and brings them back."""


def new_asset(zone: str, address: str, subnet: str, at: datetime) -> AssetState:
    """An address that is seen for the first time; it is up once that is told."""
    return AssetState(zone=zone, address=address, subnet=subnet, up=False, first_seen=at, last_seen=at, last_looked=at)


def forgetting(transitions: tuple[datetime, ...], at: datetime, settings: DifferSettings) -> tuple[datetime, ...]:
    """The transitions with a new one, without those too old to count as flapping; never more than count."""
    since = at - timedelta(hours=settings.flap_hours)
    return (*(one for one in transitions if one > since), at)[-settings.flap_transitions :]


def slim(seen: ServiceObservation) -> ServiceObservation:
    """What is kept of a service where there is no room for more."""
    return ServiceObservation(port=seen.port, transport=seen.transport, service=seen.service[:40])


def weight(seen: ServiceObservation | None) -> int:
    """Bytes that the details of a service take, as JSON: more than Avro needs."""
    return 0 if seen is None or seen == slim(seen) else len(seen.model_dump_json(exclude_defaults=True).encode())


class Draft:
    """One asset in the making. `at` and `evidence` are what changes are told with."""

    def __init__(self, asset: AssetState, at: datetime, evidence: tuple[str, ...]) -> None:
        self._before, self._at, self._evidence = asset, at, evidence
        self._revision = asset.revision
        self._recall = asset.recall
        self.services: dict[Key, ServiceState] = {(one.transport, one.port): one for one in asset.services}
        self.changes: list[AssetChange] = []
        self._weights: dict[Key, int] | None = None
        self._weight = 0
        self.up, self.names, self.path = asset.up, asset.names, asset.path
        self.last_seen, self.last_looked = asset.last_seen, asset.last_looked

    path: tuple[Hop, ...] | None

    def in_order(self) -> list[ServiceState]:
        """The services by transport and port, as they are now."""
        return [self.services[key] for key in sorted(self.services)]

    def pending(self) -> list[ServiceState]:
        """Services that opened and are not told yet."""
        return [one for one in self.in_order() if one.seen is None and one.status is not ServiceStatus.CLOSED]

    def put(self, service: ServiceState) -> None:
        """Set the state of a service."""
        self.services[service.transport, service.port] = service

    def room(self) -> bool:
        """Whether one more service may be kept; forgets the one closed longest if that makes room. A tarpit answers on all ports."""
        if len(self.services) < MAX_SERVICES:
            return True
        closed = [one for one in self.in_order() if one.status is ServiceStatus.CLOSED]
        if closed:
            oldest = min(closed, key=lambda one: one.last_seen)
            del self.services[oldest.transport, oldest.port]
        return bool(closed)

    def fitting(self, service: ServiceState, seen: ServiceObservation) -> ServiceObservation:
        """What may be kept of a service: all that was seen, or, where the host's details are too many, its name alone."""
        if self._weights is None:
            self._weights = {key: weight(one.seen) for key, one in self.services.items()}
            self._weight = sum(self._weights.values())
        key = (service.transport, service.port)
        before, after = self._weights.get(key, 0), weight(seen)
        if self._weight - before + after > (DETAILS + SLACK if before else DETAILS):
            seen, after = slim(seen), 0
        self._weights[key] = after
        self._weight += after - before
        return seen

    def note_seen(self, at: datetime) -> None:
        """The host gave a sign of life."""
        self.last_seen = max(self.last_seen, at)
        self.last_looked = max(self.last_looked, at)

    def note_looked(self, at: datetime, recall: float) -> None:
        """The host was looked at, where something is known of it."""
        if at >= self.last_looked:
            self.last_looked, self._recall = at, recall

    def tell(
        self,
        kind: ChangeKind,
        summary: str,
        service: ServiceState | None = None,
        *,
        before: ServiceObservation | None = None,
        after: ServiceObservation | None = None,
        paths: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
        evidence: tuple[str, ...] | None = None,
        at: datetime | None = None,
    ) -> None:
        """Tell one change; the revision grows by one."""
        self._revision += 1
        asset, port = self._before, service.port if service else 0
        transport = service.transport if service else Transport.TCP
        key = asset_key(asset.zone, asset.address)
        told = self._evidence if evidence is None else evidence
        change = AssetChange(
            change_id=content_id("change", key, self._revision, kind.value, transport.value, port),
            kind=kind,
            zone=asset.zone,
            address=asset.address,
            subnet=asset.subnet,
            revision=self._revision,
            port=port,
            transport=transport,
            before=before,
            after=after,
            names=self.names,
            path_before=paths[0],
            path_after=paths[1],
            summary=summary,
            evidence_ids=told or ((service.unit_id,) if service and service.unit_id else ()),
            observed_at=at or self._at,
        )
        self.changes.append(change)

    def tell_up(self) -> None:
        """The host is up."""
        self.up = True
        self.tell(ChangeKind.HOST_UP, f"{self._before.address} is up")

    def tell_down(self, why: str, at: datetime | None = None) -> None:
        """The host is down."""
        self.up = False
        self.tell(ChangeKind.HOST_DOWN, f"{self._before.address} is down: {why}", at=at)

    def done(self, settings: DifferSettings) -> AssetState:
        """The asset after the fold; the very same object as before if nothing is worth a write.

        Times alone are written when they are `seen_minutes` newer: the changelog of an unchanging network stays small.
        """
        before = self._before
        after = before.model_copy(
            update={
                "revision": self._revision,
                "up": self.up,
                "names": self.names,
                "services": tuple(self.in_order()),
                "path": self.path,
                "last_seen": self.last_seen,
                "last_looked": self.last_looked,
                "recall": self._recall,
            }
        )
        newer = max(after.last_seen - before.last_seen, after.last_looked - before.last_looked)
        return before if newer < timedelta(minutes=settings.seen_minutes) and _steady(after) == _steady(before) else after


def _steady(asset: AssetState) -> tuple[object, ...]:
    """Everything of an asset but its times and which unit saw it last."""
    services = tuple((one.port, one.transport, one.status, one.seen, one.votes, one.transitions, one.flapping) for one in asset.services)
    return asset.revision, asset.up, asset.names, asset.path, services
