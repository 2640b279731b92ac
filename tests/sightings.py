"""What scanners see, made by hand: for tests of the differ and of what reads its changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from infra.core.ports import Context, Emit, FixedTables, MemoryState, Record
from infra.core.settings import DifferSettings
from processors.diff.differ import Differ
from schemas.codec import Codec
from schemas.events.assets import AssetChange, AssetState, ServiceState
from schemas.events.base import Event, Transport
from schemas.events.observations import Certificate, Hop, HostObservation, HostPorts, HttpFacts, ServiceObservation, SweepResult, TlsFacts
from schemas.events.operations import Tick
from schemas.events.targets import TargetRequest
from schemas.ids import asset_key, content_id, subnet_key
from schemas.plain import milliseconds
from schemas.portset import parse_ports

START = datetime(2026, 11, 21, tzinfo=UTC)
ZONE, SUBNET, HOST = "default", "198.18.0.0/24", "198.18.0.7"


def at(seconds: float) -> datetime:
    """A moment so many seconds after the start of the test's time."""
    return START + timedelta(seconds=seconds)


def sweep(
    unit: str,
    seconds: float,
    answered: dict[str, Iterable[int]] | None = None,
    *,
    closed: dict[str, str] | None = None,
    unreachable: dict[str, str] | None = None,
    not_probed: dict[str, str] | None = None,
    probed: Iterable[str] = (HOST,),
    ports: str = "1-1000",
    recall: float = 0.99,
    subnet: str = SUBNET,
    transport: Transport = Transport.TCP,
) -> SweepResult:
    """A unit's port states; what is named nowhere was silent."""
    spans = [closed or {}, unreachable or {}, not_probed or {}]
    addresses = sorted({*(answered or {}), *(address for one in spans for address in one)})
    hosts = tuple(
        HostPorts(
            address=address,
            answered=tuple(sorted((answered or {}).get(address, ()))),
            closed=parse_ports(spans[0][address]) if address in spans[0] else (),
            unreachable=parse_ports(spans[1][address]) if address in spans[1] else (),
            not_probed=parse_ports(spans[2][address]) if address in spans[2] else (),
        )
        for address in addresses
    )
    return SweepResult(
        unit_id=unit,
        run_id="run",
        zone=ZONE,
        subnet=subnet,
        grant_id="grant",
        agent_id="agent",
        engine="connect",
        transport=transport,
        probed=tuple(sorted({*probed, *addresses})),
        ports=parse_ports(ports),
        hosts=hosts,
        packets_sent=100,
        loss=0.0,
        recall=recall,
        recall_samples=5,
        started_at=at(seconds - 2),
        finished_at=at(seconds),
    )


def observation(
    unit: str,
    seconds: float,
    *services: ServiceObservation,
    address: str = HOST,
    subnet: str = SUBNET,
    path: tuple[str, ...] | None = None,
    names: tuple[str, ...] = (),
) -> HostObservation:
    """What a unit learnt of one host."""
    return HostObservation(
        observation_id=content_id("observation", unit, address),
        unit_id=unit,
        run_id="run",
        zone=ZONE,
        subnet=subnet,
        address=address,
        grant_id="grant",
        agent_id="agent",
        names=names,
        services=services,
        path=None if path is None else tuple(Hop(ttl=ttl, address=one, rtt_ms=0.1) for ttl, one in enumerate(path, 1)),
        observed_at=at(seconds),
    )


def service(port: int, **fields: Any) -> ServiceObservation:
    """A service on a port."""
    return ServiceObservation(port=port, **fields)


def tls(fingerprint: str) -> TlsFacts:
    """A handshake that presented the certificate with this fingerprint."""
    certificate = Certificate(
        sha256=fingerprint, subject="CN=a", issuer="CN=a", not_before=START, not_after=at(1e7), key_type="rsa", key_bits=2048
    )
    return TlsFacts(version="TLSv1.3", certificate=certificate)


def http(server: str = "", **fields: Any) -> HttpFacts:
    """An answer to GET /."""
    return HttpFacts(status=fields.pop("status", 200), server=server, **fields)


def plain(value: Any) -> Any:
    """An event, or a part of one, as plain data: `schemas.plain`."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if isinstance(value, StrEnum):
        return value.value
    return milliseconds(value) if isinstance(value, datetime) else value


@dataclass
class Bench:
    """A differ with its state in memory, one partition."""

    settings: DifferSettings = field(default_factory=DifferSettings)
    state: MemoryState = field(default_factory=MemoryState)
    emitted: list[Emit] = field(default_factory=list)
    glancing: bool = True
    passed_by: int = 0

    def __post_init__(self) -> None:
        self._codec = Codec()
        self._step = Differ(self.settings, self._codec)
        self._offset = 0

    def feed(self, *events: Event) -> list[AssetChange]:
        """Handle events in this order; returns the changes that they told."""
        new: list[Emit] = []
        for event in events:
            self._offset += 1
            key = subnet_key(event.zone, event.subnet) if isinstance(event, SweepResult | HostObservation) else "0"
            topic = "ticks" if isinstance(event, Tick) else "probes"
            raw = self._codec.encode(topic, event)
            if self.glancing and self._step.changes_nothing(topic, raw, self.state):
                self.passed_by += 1
                continue
            record = Record(topic, 0, self._offset, START, key, None, raw if self.glancing else b"", self._codec.read(topic, raw))
            new += [self._as_written(one) for one in self._step.handle(record, Context(0, 1, self.state, FixedTables()))]
        self.emitted += new
        return [one.event for one in new if isinstance(one.event, AssetChange)]

    def _as_written(self, emit: Emit) -> Emit:
        """The output with its event as whoever reads the topic decodes it."""
        assert emit.event is not None
        return emit._replace(event=self._codec.decode(emit.topic, self._codec.encode(emit.topic, emit.event)))

    def tick(self, seconds: float) -> list[AssetChange]:
        """The ticks of the hour in which this moment lies: every asset has its turn."""
        hour = at(seconds).replace(minute=0, second=0)
        return self.feed(*(Tick(partition=0, minute=hour + timedelta(minutes=minute)) for minute in range(60)))

    @property
    def changes(self) -> list[AssetChange]:
        """All that was told so far."""
        return [one.event for one in self.emitted if isinstance(one.event, AssetChange)]

    @property
    def requests(self) -> list[TargetRequest]:
        """All looks that were asked for so far."""
        return [one.event for one in self.emitted if isinstance(one.event, TargetRequest)]

    def asset(self, address: str = HOST) -> AssetState:
        """The state of one asset. Raises KeyError if there is none."""
        found = self._codec.decode("assets", self.state.values[asset_key(ZONE, address)])
        assert isinstance(found, AssetState)
        return found

    def service(self, port: int, address: str = HOST) -> ServiceState:
        """The state of one TCP service."""
        return next(one for one in self.asset(address).services if one.port == port)


def kinds(changes: Iterable[AssetChange]) -> list[str]:
    """The kinds of changes, with their port where they have one."""
    return [f"{one.kind.value}:{one.port}" if one.port else one.kind.value for one in changes]
