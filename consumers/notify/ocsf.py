"""A finding as OCSF 1.6.0 (https://schema.ocsf.io/1.6.0/). Pure.

A finding that names a CVE or a CWE becomes a Vulnerability Finding (class 2002), any other a Detection Finding (2004). Both carry the
`incident` profile, which holds assignee, priority and verdict. Times are milliseconds since the epoch (timestamp_t).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from schemas.events.findings import Finding, FindingStatus, Place, Rank

VERSION = "1.6.0"
VULNERABILITY, DETECTION = 2002, 2004
CLASS_NAMES = {VULNERABILITY: "Vulnerability Finding", DETECTION: "Detection Finding"}
ACTIVITIES = {1: "Create", 2: "Update", 3: "Close"}
SEVERITIES = {
    Rank.INFO: (1, "Informational"),
    Rank.LOW: (2, "Low"),
    Rank.MEDIUM: (3, "Medium"),
    Rank.HIGH: (4, "High"),
    Rank.CRITICAL: (5, "Critical"),
}
# priority_id of the incident profile and risk_level_id: 0 is unknown or info, 4 critical
PRIORITIES = {
    Rank.INFO: (1, "Low"),
    Rank.LOW: (1, "Low"),
    Rank.MEDIUM: (2, "Medium"),
    Rank.HIGH: (3, "High"),
    Rank.CRITICAL: (4, "Critical"),
}
STATUSES = {
    FindingStatus.OPEN: (1, "New"),
    FindingStatus.ACCEPTED: (3, "Suppressed"),
    FindingStatus.SUPPRESSED: (3, "Suppressed"),
    FindingStatus.FALSE_POSITIVE: (3, "Suppressed"),
    FindingStatus.RESOLVED: (4, "Resolved"),
}
VERDICTS = {"false_positive": (1, "False Positive"), "true_positive": (2, "True Positive")}
CWE = re.compile(r"CWE-\d+")
OBSERVABLE_IP = 2


def to_ocsf(finding: Finding, code_version: str) -> dict[str, Any]:
    """The event of one revision of a finding. `code_version` is Driftline's."""
    cwes = sorted({name for rule in finding.rules for name in CWE.findall(rule.source)})
    kind = VULNERABILITY if finding.cves or cwes else DETECTION
    activity = 3 if finding.status == FindingStatus.RESOLVED else 1 if finding.revision == 1 else 2
    severity, severity_name = SEVERITIES[finding.rank]
    status, status_name = STATUSES[finding.status]
    event: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": ACTIVITIES[activity],
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": kind,
        "class_name": CLASS_NAMES[kind],
        "type_uid": kind * 100 + activity,
        "type_name": f"{CLASS_NAMES[kind]}: {ACTIVITIES[activity]}",
        "time": _ms(finding.changed_at),
        "start_time": _ms(finding.first_seen),
        "end_time": _ms(finding.changed_at),
        "timezone_offset": 0,
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "status_detail": finding.status.value,
        "message": f"{finding.title} ({', '.join(_where(place) for place in finding.places[:5])})",
        "metadata": _metadata(finding, code_version),
        "finding_info": _info(finding),
        "resources": [_resource(place, finding) for place in finding.places],
        "observables": _observables(finding),
        "unmapped": {"risk": finding.risk, "floor": finding.floor, "ceiling": finding.ceiling, "rationale": finding.rationale},
        **_incident(finding),
    }
    said = [one for one in (finding.decision, finding.comment) if one and one.reason]
    if said:
        event["comment"] = max(said, key=lambda one: one.decided_at).reason
    event |= _vulnerability(finding, cwes) if kind == VULNERABILITY else _detection(finding)
    return event


def _metadata(finding: Finding, code_version: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "profiles": ["incident"],
        "product": {"name": "Driftline", "vendor_name": "Driftline", "version": code_version},
        "uid": f"{finding.finding_id}:{finding.revision}",
        "correlation_uid": finding.finding_id,
        "event_code": finding.rule,
        "sequence": finding.revision,
        "log_name": "findings.ocsf",
        "log_provider": "Driftline",
        "original_time": finding.changed_at.isoformat(),
        "labels": list(finding.tags),
    }


def _info(finding: Finding) -> dict[str, Any]:
    return {
        "uid": finding.finding_id,
        "title": finding.title,
        "desc": finding.why,
        "types": [finding.rule],
        "analytic": {"uid": finding.rule, "name": finding.rule, "type_id": 1, "type": "Rule"},
        "data_sources": list(finding.evidence_ids),
        "created_time": _ms(finding.first_seen),
        "first_seen_time": _ms(finding.first_seen),
        "modified_time": _ms(finding.changed_at),
        "last_seen_time": _ms(finding.changed_at),
    }


def _resource(place: Place, finding: Finding) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "uid": f"{place.zone}|{_where(place)}",
        "name": place.names[0] if place.names else _where(place),
        "ip": place.address,
        "type": "service" if place.port else "host",
        "namespace": place.zone,
        "role_id": 3,
    }
    if place.names:
        resource["hostname"] = place.names[0]
    if finding.owner:
        resource["owner"] = {"name": finding.owner}
    if finding.criticality:
        resource["criticality"] = finding.criticality
    return resource


def _observables(finding: Finding) -> list[dict[str, Any]]:
    addresses = sorted({place.address for place in finding.places})
    return [{"name": "resources.ip", "type_id": OBSERVABLE_IP, "type": "IP Address", "value": one} for one in addresses]


def _incident(finding: Finding) -> dict[str, Any]:
    priority, priority_name = PRIORITIES[finding.rank]
    fields: dict[str, Any] = {"priority_id": priority, "priority": priority_name}
    decision = finding.decision
    if finding.assignee:
        fields["assignee"] = {"name": finding.assignee}
    if decision and decision.kind.value in VERDICTS:
        fields["verdict_id"], fields["verdict"] = VERDICTS[decision.kind.value]
    return fields


def _vulnerability(finding: Finding, cwes: list[str]) -> dict[str, Any]:
    shared = {
        "title": finding.title,
        "desc": finding.why,
        "severity": SEVERITIES[finding.rank][1],
        "first_seen_time": _ms(finding.first_seen),
        "last_seen_time": _ms(finding.changed_at),
        "remediation": {"desc": finding.action},
        "references": sorted({rule.source for rule in finding.rules}),
    }
    # exactly one of advisory, cve, cwe per entry
    named: list[dict[str, Any]] = [{"cve": {"uid": cve}} for cve in finding.cves] or [{"cwe": {"uid": cwe}} for cwe in cwes]
    return {"vulnerabilities": [{**shared, **one} for one in named]}


def _detection(finding: Finding) -> dict[str, Any]:
    return {
        "is_alert": finding.rank in (Rank.HIGH, Rank.CRITICAL),
        "risk_score": round(finding.risk),
        "risk_level_id": SEVERITIES[finding.rank][0] - 1,
        "risk_level": "Info" if finding.rank == Rank.INFO else SEVERITIES[finding.rank][1],
        "risk_details": finding.rationale,
        "remediation": {"desc": finding.action},
    }


def _where(place: Place) -> str:
    address = f"[{place.address}]" if ":" in place.address else place.address
    return f"{address}:{place.port}/{place.transport.value}" if place.port else place.address


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
