"""Records as plain data: what Avro's decoder gives, for steps that handle more of them a second than models could be made of.

A field is called as in the event of the same name; times are milliseconds since 1970, as Avro has them (timestamp-millis); sequences are
lists, text of an enum is text. Nobody changes a record in place: the decoded ones are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypedDict

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Plain(NamedTuple):
    """A record of a topic: the event's name and its fields, none missing. What `Codec.read` gives and `Codec.encode` takes."""

    name: str
    fields: Mapping[str, Any]


class Range(TypedDict):
    """`PortRange`."""

    first: int
    last: int


class HostPorts(TypedDict):
    """`HostPorts`."""

    address: str
    answered: list[int]
    closed: list[Range]
    unreachable: list[Range]
    not_probed: list[Range]
    echo: bool


class Impact(TypedDict):
    """`Impact`."""

    address: str
    port: int


class Sweep(TypedDict):
    """`SweepResult`, as far as the differ looks at it."""

    unit_id: str
    zone: str
    subnet: str
    grant_id: str
    transport: str
    probed: list[str]
    ports: list[Range]
    hosts: list[HostPorts]
    recall: float
    finished_at: int
    impact: list[Impact]


class Certificate(TypedDict):
    """`Certificate`."""

    sha256: str
    subject: str
    issuer: str
    names: list[str]
    not_before: int
    not_after: int
    key_type: str
    key_bits: int
    signature_hash: str
    self_signed: bool


class Tls(TypedDict):
    """`TlsFacts`."""

    version: str
    cipher: str
    outdated: list[str]
    certificate: Certificate | None


class Http(TypedDict):
    """`HttpFacts`."""

    status: int
    title: str
    server: str
    location: str
    headers: dict[str, str]


class Service(TypedDict):
    """`ServiceObservation`."""

    port: int
    transport: str
    service: str
    product: str
    version: str
    extra: str
    cpes: list[str]
    banner: str
    tls: Tls | None
    http: Http | None
    facts: dict[str, str]
    evidence: list[str]


class Hop(TypedDict):
    """`Hop`."""

    ttl: int
    address: str
    rtt_ms: float | None


class Observation(TypedDict):
    """`HostObservation`, as far as the differ looks at it."""

    observation_id: str
    unit_id: str
    zone: str
    subnet: str
    address: str
    names: list[str]
    services: list[Service]
    path: list[Hop] | None
    fingerprints: str
    observed_at: int


class Vote(TypedDict):
    """`Vote`."""

    unit_id: str
    kind: str
    at: int


class ServiceState(TypedDict):
    """`ServiceState`."""

    port: int
    transport: str
    status: str
    seen: Service | None
    first_seen: int
    last_seen: int
    votes: list[Vote]
    transitions: list[int]
    flapping: bool
    unit_id: str
    baseline: bool


class Asset(TypedDict):
    """`AssetState`."""

    zone: str
    address: str
    subnet: str
    revision: int
    up: bool
    names: list[str]
    services: list[ServiceState]
    path: list[Hop] | None
    first_seen: int
    last_seen: int
    last_looked: int
    recall: float


class Change(TypedDict):
    """`AssetChange`."""

    change_id: str
    kind: str
    zone: str
    address: str
    subnet: str
    revision: int
    port: int
    transport: str
    before: Service | None
    after: Service | None
    names: list[str]
    path_before: list[str]
    path_after: list[str]
    summary: str
    evidence_ids: list[str]
    observed_at: int
    baseline: bool


class LookedAt(TypedDict):
    """`LookedAt`."""

    transport: str
    addresses: list[str]
    ports: list[Range]


class SubnetLooks(TypedDict):
    """`SubnetLooks`."""

    zone: str
    subnet: str
    looked: list[LookedAt]
    full: bool


def service_on(port: int, transport: str, service: str = "") -> Service:
    """A service of which nothing else is known."""
    return {
        "port": port,
        "transport": transport,
        "service": service,
        "product": "",
        "version": "",
        "extra": "",
        "cpes": [],
        "banner": "",
        "tls": None,
        "http": None,
        "facts": {},
        "evidence": [],
    }


def moment(milliseconds: int) -> datetime:
    """The time that a number stands for."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds(time: datetime) -> int:
    """The number that stands for a time."""
    return (time - EPOCH) // timedelta(milliseconds=1)
