"""The demo's facts, held against services as they are seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from infra.app.commands.match import _table
from infra.app.demo.vulnerabilities import FACTS, by_version_only
from processors.match.evidence import seen_in
from processors.match.matching import known, match
from processors.match.rulings import Verdict
from schemas.events.assets import AssetState, ServiceState, ServiceStatus
from schemas.events.intel import IntelRecord
from schemas.events.observations import ServiceObservation

AT = datetime(2026, 3, 4, 12, tzinfo=UTC)
INTEL = _table(FACTS / "cve.jsonl")


def ssh(revision: str, status: ServiceStatus = ServiceStatus.OPEN) -> AssetState:
    facts: dict[str, Any] = {"package.distribution": "Debian", "package.revision": revision} if revision else {}
    seen = ServiceObservation(port=22, service="ssh", version="9.2p1", cpes=("cpe:2.3:a:openbsd:openssh:9.2p1:*:*:*:*:*:*:*",), facts=facts)
    service = ServiceState(port=22, status=status, seen=seen, first_seen=AT, last_seen=AT)
    return AssetState(
        zone="default", address="198.18.0.4", subnet="198.18.0.0/24", services=(service,), first_seen=AT, last_seen=AT, last_looked=AT
    )


def told(asset: AssetState) -> set[str]:
    return {row["cve"] for row in by_version_only({"198.18.0.4": asset}, INTEL)}


def test_what_the_package_has_mended_is_told_with_the_reason() -> None:
    assert told(ssh("2+deb12u10")) == {"CVE-2024-6387", "CVE-2023-38408", "CVE-2023-48795"}
    row = next(iter(by_version_only({"": ssh("2+deb12u10")}, INTEL)))
    assert row["place"] == "198.18.0.4:tcp/22"
    assert "9.2p1 is in" in row["by_version_alone"]
    assert "Debian has mended it" in row["not_reported_because"]


def test_what_is_reported_is_not_told_as_left_out() -> None:
    assert told(ssh("2+deb12u2")) == {"CVE-2023-38408", "CVE-2023-48795"}
    assert told(ssh("")) == set()


def test_a_closed_service_is_none() -> None:
    assert told(ssh("2+deb12u10", ServiceStatus.CLOSED)) == set()


def test_the_lab_s_nginx_is_affected() -> None:
    record = INTEL["CVE-2023-44487"]
    assert isinstance(record, IntelRecord)
    nginx = ServiceObservation(port=80, service="http", version="1.22.1", cpes=("cpe:2.3:a:f5:nginx:1.22.1:*:*:*:*:*:*:*",))
    found = match(seen_in(nginx), known(record))
    assert found
    assert found.verdict is Verdict.AFFECTED
