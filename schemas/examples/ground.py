"""What the examples have in common: one moment, one host, one service with its certificate, one place, one decision. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from schemas.events.base import PortRange, Transport
from schemas.events.findings import (
    Decision,
    DecisionKind,
    FiredRule,
    Place,
)
from schemas.events.observations import (
    Certificate,
    HttpFacts,
    ServiceObservation,
    TlsFacts,
)
from schemas.ids import content_id, finding_id

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ADDRESS, SUBNET = "198.18.1.3", "198.18.1.0/24"
WEB = (PortRange(first=80, last=80), PortRange(first=443, last=443))
UNIT = content_id("unit", "example")
RUN = content_id("run", "example")

CERTIFICATE = Certificate(
    sha256="ab" * 32,
    subject="CN=legacy.lab.test",
    issuer="CN=legacy.lab.test",
    names=("legacy.lab.test",),
    not_before=AT - timedelta(days=400),
    not_after=AT - timedelta(days=35),
    key_type="RSA",
    key_bits=2048,
    signature_hash="sha256",
    self_signed=True,
)
SERVICE = ServiceObservation(
    port=443,
    transport=Transport.TCP,
    service="https",
    product="nginx",
    version="1.22.1",
    extra="Debian",
    cpes=("cpe:2.3:a:f5:nginx:1.22.1:*:*:*:*:*:*:*",),
    banner="HTTP/1.1 200 OK",
    tls=TlsFacts(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", outdated=("TLSv1.1",), certificate=CERTIFICATE),
    http=HttpFacts(status=200, title="Welcome to nginx!", server="nginx/1.22.1", location="", headers={"server": "nginx/1.22.1"}),
    facts={"http.redirects_to_tls": "no"},
    evidence=("tls", "http"),
)
PLACE = Place(zone="default", address=ADDRESS, port=443, transport=Transport.TCP, names=("legacy.lab.test",))
FIRED = FiredRule(rule="certificate-expired", effect="base 50", input="ended 35 days ago", source="NIST SP 800-52r2, 4.1")
FINDING_ID = finding_id("default", "certificate-expired", "ab" * 32)
DECISION = Decision(
    decision_id=content_id("decision", "example"),
    finding_id=FINDING_ID,
    kind=DecisionKind.ACCEPT,
    reason="replaced next week",
    risk=40.0,
    expires_at=AT + timedelta(days=7),
    decided_by="bob",
    decided_at=AT,
)
COMMENT = DECISION.model_copy(update={"kind": DecisionKind.COMMENT, "reason": "the vendor was asked", "risk": None, "expires_at": None})
