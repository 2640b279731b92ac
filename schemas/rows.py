"""Events as ClickHouse rows: pure functions from an event to rows of tables. The tables themselves are in `infra/clickhouse/sql`.

Every row carries the deterministic id or key that its table dedupes on, so that writing a record twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from schemas.events.assets import AssetChange, AssetState, SubnetLooks
from schemas.events.base import Event
from schemas.events.findings import Exposure, Finding
from schemas.events.observations import HostObservation, ServiceObservation, SweepResult
from schemas.events.operations import AgentStatus, AuditRecord, Rollup
from schemas.events.targets import Run
from schemas.events.touches import Touches
from schemas.portset import show_ports

Row = dict[str, Any]
TableRow = tuple[str, Row]


def rows_of(event: Event, recorded_at: datetime) -> list[TableRow]:
    """The rows that an event becomes: (table, columns). Raises KeyError for an event that no table keeps, ValueError for no IP address."""
    found = list(ROWS[type(event)](event))
    for _, row in found:
        row["recorded_at"] = recorded_at
    return found


def address(text: str) -> str:
    """The same text. Raises ValueError for what is no address: the tables' column `ip` is made from it, without an interface (RFC 4007)."""
    if "%" in text:
        raise ValueError(f"{text!r} names an interface, which only its own host knows")
    ip_address(text)
    return text


def _sweep(event: SweepResult) -> Iterator[TableRow]:
    yield (
        "sweeps",
        {
            "unit_id": event.unit_id,
            "run_id": event.run_id,
            "campaign_id": event.campaign_id or "",
            "zone": event.zone,
            "subnet": event.subnet,
            "grant_id": event.grant_id,
            "agent_id": event.agent_id,
            "attempt": event.attempt,
            "engine": event.engine,
            "transport": event.transport.value,
            "addresses": list(event.probed),
            "ports": show_ports(event.ports),
            "answered": sum(len(host.answered) for host in event.hosts),
            "complete": event.complete,
            "stopped_reason": event.stopped_reason,
            "packets_sent": event.packets_sent,
            "loss": event.loss,
            "recall": event.recall,
            "recall_low": event.recall_low,
            "recall_high": event.recall_high,
            "recall_samples": event.recall_samples,
            "drops": event.drops,
            "quarantined": [one.address for one in event.quarantined],
            "quarantine_reasons": [one.reason for one in event.quarantined],
            "started_at": event.started_at,
            "finished_at": event.finished_at,
        },
    )


def _observation(event: HostObservation) -> Iterator[TableRow]:
    for service in event.services:
        yield (
            "observations",
            {
                "observation_id": event.observation_id,
                "unit_id": event.unit_id,
                "run_id": event.run_id,
                "zone": event.zone,
                "subnet": event.subnet,
                "address": address(event.address),
                "grant_id": event.grant_id,
                "agent_id": event.agent_id,
                "attempt": event.attempt,
                "names": list(event.names),
                "observed_at": event.observed_at,
                **_service(service),
                "banner": service.banner,
                "evidence": list(service.evidence),
            },
        )


def _service(seen: ServiceObservation | None) -> Row:
    tls = seen.tls if seen else None
    http = seen.http if seen else None
    certificate = tls.certificate if tls else None
    return {
        "port": seen.port if seen else 0,
        "transport": seen.transport.value if seen else "tcp",
        "service": seen.service if seen else "",
        "product": seen.product if seen else "",
        "version": seen.version if seen else "",
        "cpes": list(seen.cpes) if seen else [],
        "facts": dict(seen.facts) if seen else {},
        "tls_version": tls.version if tls else "",
        "tls_outdated": list(tls.outdated) if tls else [],
        "certificate_sha256": certificate.sha256 if certificate else "",
        "certificate_subject": certificate.subject if certificate else "",
        "certificate_not_after": certificate.not_after if certificate else None,
        "http_status": http.status if http else 0,
        "http_title": http.title if http else "",
    }


def _touches(event: Touches) -> Iterator[TableRow]:
    for number, one in enumerate(event.touches):
        yield (
            "touches",
            {
                "record_id": event.record_id,
                "number": number,
                "first_ip": address(one.first),
                "last_ip": address(one.last),
                "kind": one.kind.value,
                "ports": show_ports(one.ports),
                "every_port": one.every_port,
                "packets": one.packets,
                "exact": event.exact,
                "unit_id": event.unit_id,
                "run_id": event.run_id,
                "campaign_id": event.campaign_id or "",
                "zone": event.zone,
                "subnet": event.subnet,
                "grant_id": event.grant_id,
                "grant_revision": event.grant_revision,
                "issued_by": event.issued_by,
                "agent_id": event.agent_id,
                "attempt": event.attempt,
                "first_at": one.first_at,
                "last_at": one.last_at,
            },
        )


def _asset(event: AssetState) -> Iterator[TableRow]:
    yield (
        "assets",
        {
            "zone": event.zone,
            "address": address(event.address),
            "subnet": event.subnet,
            "revision": event.revision,
            "up": event.up,
            "names": list(event.names),
            "open_ports": [one.port for one in event.services if one.status != "closed"],
            "path": [hop.address for hop in event.path or ()],
            "first_seen": event.first_seen,
            "last_seen": event.last_seen,
            "last_looked": event.last_looked,
        },
    )
    for one in event.services:
        yield (
            "services",
            {
                "zone": event.zone,
                "address": address(event.address),
                "revision": event.revision,
                **_service(one.seen),
                "port": one.port,
                "transport": one.transport.value,
                "status": one.status.value,
                "flapping": one.flapping,
                "first_seen": one.first_seen,
                "last_seen": one.last_seen,
            },
        )


def _looks(_: SubnetLooks) -> Iterator[TableRow]:
    """None: it is the differ's own memory."""
    return iter(())


def _change(event: AssetChange) -> Iterator[TableRow]:
    before, after = _service(event.before), _service(event.after)
    compared = ("service", "product", "version", "certificate_sha256")
    yield (
        "changes",
        {
            "change_id": event.change_id,
            "kind": event.kind.value,
            "zone": event.zone,
            "address": address(event.address),
            "subnet": event.subnet,
            "revision": event.revision,
            "port": event.port,
            "transport": event.transport.value,
            "summary": event.summary,
            **{f"{name}_before": before[name] for name in compared},
            **{f"{name}_after": after[name] for name in compared},
            "evidence_ids": list(event.evidence_ids),
            "observed_at": event.observed_at,
        },
    )


def _exposure(event: Exposure) -> Iterator[TableRow]:
    yield (
        "exposures",
        {
            "exposure_id": event.exposure_id,
            "finding_id": event.finding_id,
            "event": event.event.value,
            "revision": event.revision,
            "rule": event.rule,
            "subject": event.subject,
            "title": event.title,
            "zone": event.place.zone,
            "address": address(event.place.address),
            "port": event.place.port,
            "transport": event.place.transport.value,
            "base_risk": event.base_risk,
            "floor": event.floor,
            "ceiling": event.ceiling,
            "rules": [f"{fired.rule}: {fired.effect} ({fired.input})" for fired in event.rules],
            "cves": list(event.cves),
            "owner": event.owner,
            "criticality": event.criticality,
            "evidence_ids": list(event.evidence_ids),
            "evidence": event.evidence,
            "observed_at": event.observed_at,
        },
    )


def _finding(event: Finding) -> Iterator[TableRow]:
    yield (
        "findings",
        {
            "finding_id": event.finding_id,
            "revision": event.revision,
            "status": event.status.value,
            "zone": event.zone,
            "rule": event.rule,
            "subject": event.subject,
            "title": event.title,
            "why": event.why,
            "action": event.action,
            "places": [f"{place.address}:{place.port}" if place.port else place.address for place in event.places],
            "addresses": sorted({place.address for place in event.places}),
            "base_risk": event.base_risk,
            "floor": event.floor,
            "ceiling": event.ceiling,
            "risk": event.risk,
            "rank": event.rank.value,
            "rationale": event.rationale,
            "rules": [f"{fired.rule}: {fired.effect} ({fired.input}) [{fired.source}]" for fired in event.rules],
            "cves": list(event.cves),
            "owner": event.owner,
            "criticality": event.criticality,
            "tags": list(event.tags),
            "evidence_ids": list(event.evidence_ids),
            "decision": event.decision.kind.value if event.decision else "",
            "decided_by": event.decision.decided_by if event.decision else "",
            "decision_reason": event.decision.reason if event.decision else "",
            "decision_until": event.decision.expires_at if event.decision else None,
            "assignee": event.assignee,
            "comment": event.comment.reason if event.comment else "",
            "comment_by": event.comment.decided_by if event.comment else "",
            "review": event.review.status.value,
            "review_model": event.review.model,
            "review_prompt": event.review.prompt_hash,
            "explanation": event.review.explanation or event.review.note,
            "model_action": event.review.action,
            "model_evidence_ids": list(event.review.evidence_ids),
            "reopened": event.reopened,
            "first_seen": event.first_seen,
            "changed_at": event.changed_at,
            "resolved_at": event.resolved_at,
            "baseline": event.baseline,
        },
    )


def _run(event: Run) -> Iterator[TableRow]:
    yield (
        "runs",
        {
            "run_id": event.run_id,
            "request_id": event.request_id,
            "campaign_id": event.campaign_id or "",
            "zone": event.zone,
            "cause": event.cause.value,
            "units": event.units,
            "addresses": event.addresses,
            "ports": event.ports,
            "excluded": event.excluded,
            "refused_targets": [one.target for one in event.refused],
            "refused_reasons": [one.reason for one in event.refused],
            "started_at": event.started_at,
        },
    )


def _agent(event: AgentStatus) -> Iterator[TableRow]:
    yield (
        "agents",
        {
            **event.model_dump(exclude={"capabilities", "partitions", "state"}),
            "state": event.state.value,
            "capabilities": list(event.capabilities),
            "partitions": list(event.partitions),
        },
    )


def _audit(event: AuditRecord) -> Iterator[TableRow]:
    yield "audit", event.model_dump()


def _rollup(event: Rollup) -> Iterator[TableRow]:
    yield "rollups", event.model_dump()


ROWS: dict[type[Event], Callable[[Any], Iterator[TableRow]]] = {
    SweepResult: _sweep,
    HostObservation: _observation,
    Touches: _touches,
    AssetState: _asset,
    SubnetLooks: _looks,
    AssetChange: _change,
    Exposure: _exposure,
    Finding: _finding,
    Run: _run,
    AgentStatus: _agent,
    AuditRecord: _audit,
    Rollup: _rollup,
}
