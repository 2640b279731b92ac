"""An asset while one record is folded into it, and the changes that are told of it. Lives for one fold only."""

from __future__ import annotations

import json
from collections.abc import Sequence

from infra.core.settings import DifferSettings
from schemas.ids import asset_key, content_id
from schemas.plain import Asset, Change, Hop, Service, ServiceState, service_on

Key = tuple[str, int]
HOUR, MINUTE = 3_600_000, 60_000
MAX_SERVICES = 1000
DETAILS = 131_072
"""Bytes of details that are kept of one host; what comes beyond is kept without. With 1000 services a value stays below 512 KB."""
SLACK = 32_768
"""Details that are kept already may grow by so much together, lest a banner that varies takes them away and brings them back."""
EMPTY: tuple[object, ...] = ("", "tcp", None, False, [], {})


def new_asset(zone: str, address: str, subnet: str, at: int) -> Asset:
    """An address that is seen for the first time; it is up once that is told."""
    return {
        "zone": zone,
        "address": address,
        "subnet": subnet,
        "revision": 0,
        "up": False,
        "names": [],
        "services": [],
        "path": None,
        "first_seen": at,
        "last_seen": at,
        "last_looked": at,
        "recall": 1.0,
    }


def forgetting(transitions: Sequence[int], at: int, settings: DifferSettings) -> list[int]:
    """The transitions with a new one, without those too old to count as flapping; never more than count."""
    since = at - settings.flap_hours * HOUR
    return [*(one for one in transitions if one > since), at][-settings.flap_transitions :]


def slim(seen: Service) -> Service:
    """What is kept of a service where there is no room for more."""
    return service_on(seen["port"], seen["transport"], seen["service"][:40])


def weight(seen: Service | None) -> int:
    """Bytes that the details of a service take, as JSON: more than Avro needs."""
    return 0 if seen is None or seen == slim(seen) else len(json.dumps(_filled(seen), ensure_ascii=False, separators=(",", ":")).encode())


def _filled(value: object) -> object:
    if isinstance(value, dict):
        return {name: _filled(one) for name, one in value.items() if one not in EMPTY}
    return value


def at_most(details: object) -> int:
    """More than such details weigh, in a tenth of the time: Python's own notation is as long as JSON, but for control signs."""
    return 2 * len(repr(details).encode())


class Draft:
    """One asset in the making. `at` and `evidence` are what changes are told with."""

    def __init__(self, asset: Asset, at: int, evidence: Sequence[str]) -> None:
        self._before, self._at, self._evidence = asset, at, evidence
        self._revision = asset["revision"]
        self._recall = asset["recall"]
        self.services: dict[Key, ServiceState] = {(one["transport"], one["port"]): one for one in asset["services"]}
        self.changes: list[Change] = []
        self._room: int | None = None
        self._details: dict[Key, Service | None] = {}
        self._weights: dict[Key, int] | None = None
        self._weight = 0
        self.up, self.names, self.path = asset["up"], asset["names"], asset["path"]
        self.last_seen, self.last_looked = asset["last_seen"], asset["last_looked"]

    path: list[Hop] | None

    def in_order(self) -> list[ServiceState]:
        """The services by transport and port, as they are now."""
        return [self.services[key] for key in sorted(self.services)]

    def pending(self) -> list[ServiceState]:
        """Services that opened and are not told yet."""
        return [one for one in self.in_order() if one["seen"] is None and one["status"] != "closed"]

    def put(self, service: ServiceState) -> None:
        """Set the state of a service."""
        self.services[service["transport"], service["port"]] = service

    def room(self) -> bool:
        """Whether one more service may be kept; forgets the one closed longest if that makes room. A tarpit answers on all ports."""
        if len(self.services) < MAX_SERVICES:
            return True
        closed = [one for one in self.in_order() if one["status"] == "closed"]
        if closed:
            oldest = min(closed, key=lambda one: one["last_seen"])
            del self.services[oldest["transport"], oldest["port"]]
        return bool(closed)

    def fitting(self, service: ServiceState, seen: Service) -> Service:
        """What may be kept of a service: all that was seen, or, where the host's details are too many, its name alone."""
        if self._room is None:
            self._details = {key: one["seen"] for key, one in self.services.items()}
            self._room = DETAILS - at_most(self._details)
        key = (service["transport"], service["port"])
        self._room -= at_most(seen)
        if self._room >= 0:
            self._details[key] = seen
            return seen
        if self._weights is None:
            self._weights = {key: weight(one) for key, one in self._details.items()}
            self._weight = sum(self._weights.values())
        before, after = self._weights.get(key, 0), weight(seen)
        if self._weight - before + after > (DETAILS + SLACK if before else DETAILS):
            seen, after = slim(seen), 0
        self._weights[key] = after
        self._weight += after - before
        return seen

    def note_seen(self, at: int) -> None:
        """The host gave a sign of life."""
        self.last_seen = max(self.last_seen, at)
        self.last_looked = max(self.last_looked, at)

    def note_looked(self, at: int, recall: float) -> None:
        """The host was looked at, where something is known of it."""
        if at >= self.last_looked:
            self.last_looked, self._recall = at, recall

    def tell(
        self,
        kind: str,
        summary: str,
        service: ServiceState | None = None,
        *,
        before: Service | None = None,
        after: Service | None = None,
        paths: tuple[list[str], list[str]] = ([], []),
        evidence: Sequence[str] | None = None,
        at: int | None = None,
    ) -> None:
        """Tell one change; the revision grows by one."""
        self._revision += 1
        asset, port = self._before, service["port"] if service else 0
        transport = service["transport"] if service else "tcp"
        key = asset_key(asset["zone"], asset["address"])
        told = self._evidence if evidence is None else evidence
        self.changes.append(
            {
                "change_id": content_id("change", key, self._revision, kind, transport, port),
                "kind": kind,
                "zone": asset["zone"],
                "address": asset["address"],
                "subnet": asset["subnet"],
                "revision": self._revision,
                "port": port,
                "transport": transport,
                "before": before,
                "after": after,
                "names": self.names,
                "path_before": paths[0],
                "path_after": paths[1],
                "summary": summary,
                "evidence_ids": list(told) or ([service["unit_id"]] if service and service["unit_id"] else []),
                "observed_at": self._at if at is None else at,
                "baseline": service["baseline"] if service else False,
            }
        )

    def tell_up(self) -> None:
        """The host is up."""
        self.up = True
        self.tell("host_up", f"{self._before['address']} is up")

    def tell_down(self, why: str, at: int | None = None) -> None:
        """The host is down."""
        self.up = False
        self.tell("host_down", f"{self._before['address']} is down: {why}", at=at)

    def done(self, settings: DifferSettings) -> Asset:
        """The asset after the fold; the very same object as before if nothing is worth a write.

        Times alone are written when they are `seen_minutes` newer: the changelog of an unchanging network stays small.
        """
        before = self._before
        newer = max(self.last_seen - before["last_seen"], self.last_looked - before["last_looked"])
        services = self.in_order()
        if newer < settings.seen_minutes * MINUTE and self._as_before(services):
            return before
        return {
            **before,
            "revision": self._revision,
            "up": self.up,
            "names": self.names,
            "services": services,
            "path": self.path,
            "last_seen": self.last_seen,
            "last_looked": self.last_looked,
            "recall": self._recall,
        }

    def _as_before(self, services: list[ServiceState]) -> bool:
        """Whether all is the same but the times, and which unit saw a service last."""
        before = self._before
        return (
            self._revision == before["revision"]
            and self.up == before["up"]
            and self.names == before["names"]
            and self.path == before["path"]
            and len(services) == len(before["services"])
            and all(old is new or steady(old) == steady(new) for old, new in zip(before["services"], services, strict=True))
        )


def steady(one: ServiceState) -> tuple[object, ...]:
    """Everything of a service but its times, and which unit saw it last."""
    return one["port"], one["transport"], one["status"], one["seen"], one["votes"], one["transitions"], one["flapping"]
