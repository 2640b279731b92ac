"""What a scanner saw. SweepResult alone says port states; HostObservation alone says the rest."""

from __future__ import annotations

from pydantic import Field

from schemas.events.base import AnyTime, Event, Fraction, Port, PortRange, Timestamp, Transport


class HostPorts(Event):
    """Port states of one host in one unit. A probed port that is in no list was silent."""

    address: str
    answered: tuple[Port, ...] = ()
    closed: tuple[PortRange, ...] = ()
    unreachable: tuple[PortRange, ...] = ()
    not_probed: tuple[PortRange, ...] = ()


class Quarantine(Event):
    """A host whose answers are not believed, such as one that answers on every port: nothing is said of its ports, and why."""

    address: str
    reason: str


class Impact(Event):
    """A host that answered on this TCP port and stopped answering while it was probed."""

    address: str
    port: Port


class SweepResult(Event):
    """What one unit probed and what answered. A probed host that is not in `hosts` was silent on every probed port.

    `recall` is the estimated share of truly open ports that the sweep found, between `recall_low` and `recall_high` with a chance of 95 %;
    `recall_samples` is the number of answers behind the estimate (0: the estimate is the prior alone). `loss` is the estimated share of
    probes or answers that were lost; `drops` counts the answers that the scanner itself had no room for.
    """

    unit_id: str
    run_id: str
    campaign_id: str | None = None
    zone: str
    subnet: str
    grant_id: str
    agent_id: str
    attempt: int = 1
    engine: str
    transport: Transport = Transport.TCP
    probed: tuple[str, ...]
    ports: tuple[PortRange, ...]
    hosts: tuple[HostPorts, ...]
    complete: bool = True
    stopped_reason: str = ""
    packets_sent: int
    loss: Fraction
    recall: Fraction
    recall_samples: int
    recall_low: Fraction = 0.0
    recall_high: Fraction = 1.0
    drops: int = 0
    quarantined: tuple[Quarantine, ...] = ()
    started_at: Timestamp
    finished_at: Timestamp
    impact: tuple[Impact, ...] = ()


class Certificate(Event):
    """An X.509 certificate as presented (RFC 5280). `sha256` is the fingerprint of its DER form, hex."""

    sha256: str
    subject: str
    issuer: str
    names: tuple[str, ...] = ()
    not_before: AnyTime
    not_after: AnyTime
    key_type: str
    key_bits: int
    signature_hash: str = ""
    self_signed: bool = False


class TlsFacts(Event):
    """What a TLS handshake showed: the version agreed on, whether outdated ones are accepted too, the certificate."""

    version: str
    cipher: str = ""
    outdated: tuple[str, ...] = ()
    certificate: Certificate | None = None


class HttpFacts(Event):
    """What a GET / showed. `headers` are names and values of an allow-list, lower case names, values capped."""

    status: int
    title: str = ""
    server: str = ""
    location: str = ""
    headers: dict[str, str] = Field(default_factory=dict)


class ServiceObservation(Event):
    """One service on one answered port. `facts` are proofs by harmless probes, such as `{"redis.auth": "none"}`.

    `evidence` names the probes that contributed; the banner is hostile input, capped at 512 characters.
    """

    port: Port
    transport: Transport = Transport.TCP
    service: str = ""
    product: str = ""
    version: str = ""
    extra: str = ""
    cpes: tuple[str, ...] = ()
    banner: str = ""
    tls: TlsFacts | None = None
    http: HttpFacts | None = None
    facts: dict[str, str] = Field(default_factory=dict)
    evidence: tuple[str, ...] = ()


class Hop(Event):
    """One step on the way to a host. An empty address did not answer."""

    ttl: int = Field(ge=1, le=255)
    address: str = ""
    rtt_ms: float | None = None


class HostObservation(Event):
    """All that a unit learnt about one host, beside its port states."""

    observation_id: str
    unit_id: str
    run_id: str
    campaign_id: str | None = None
    zone: str
    subnet: str
    address: str
    grant_id: str
    agent_id: str
    attempt: int = 1
    names: tuple[str, ...] = ()
    services: tuple[ServiceObservation, ...] = ()
    path: tuple[Hop, ...] | None = None
    fingerprints: str = Field("", description="version of the fingerprint table that enriched it")
    observed_at: Timestamp
