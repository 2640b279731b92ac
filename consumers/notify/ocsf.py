"""A finding as OCSF 1.6.0 (https://schema.ocsf.io/1.6.0/). Pure.

A finding that names a CVE or a CWE becomes a Vulnerability Finding (class 2002); one whose rule is a requirement of a standard a
Compliance Finding (2003); something that was noticed (a service is new, flaps, fell silent), and any other, a Detection Finding (2004).
All carry the `incident` profile, which holds assignee, priority and verdict. Times are milliseconds since the epoch (timestamp_t).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from schemas.events.findings import Finding, FindingStatus, Place, Rank

VERSION = "1.6.0"
EXPLOITED = "known-exploited"
"""The rule whose CVEs are all in KEV."""
VULNERABILITY, COMPLIANCE, DETECTION = 2002, 2003, 2004
CLASS_NAMES = {VULNERABILITY: "Vulnerability Finding", COMPLIANCE: "Compliance Finding", DETECTION: "Detection Finding"}
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
STANDARD = re.compile(
    r"(NIST SP 800-\d+\w*|CIS Controls v\d+|CISA BOD \d\d-\d\d|PCI DSS v?[\d.]+|ISO/IEC \d+|RFC \d+|OWASP [\w ]+)[ ,]*(.*)"
)
NOTICED = frozenset({"service-new", "service-flapping", "suspected-impact", "service-vanished"})
"""Rules that tell of an event rather than of a state that a standard forbids."""
CONFIDENT = "proof"
"""The adjustment that is written with a finding which a probe has shown (processors.correlate.adjustments)."""
OBSERVABLES = {"hostname": (1, "Hostname"), "ip": (2, "IP Address"), "cve": (18, "CVE")}
EVIDENCES = 20
PRODUCT = {"name": "Driftline", "vendor_name": "Driftline"}


def to_ocsf(finding: Finding, code_version: str) -> dict[str, Any]:
    """The event of one revision of a finding. `code_version` is Driftline's."""
    cwes = sorted({name for rule in finding.rules for name in CWE.findall(rule.source)})
    standards = standards_of(finding)
    kind = VULNERABILITY if finding.cves or cwes else COMPLIANCE if standards and finding.rule not in NOTICED else DETECTION
    activity = 3 if finding.status == FindingStatus.RESOLVED else 1 if finding.revision == 1 else 2
    severity, severity_name = SEVERITIES[finding.rank]
    status, status_name = (2, "In Progress") if finding.status == FindingStatus.OPEN and finding.assignee else STATUSES[finding.status]
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
        "unmapped": _unmapped(finding),
        **_incident(finding),
    }
    if any(rule.rule == CONFIDENT for rule in finding.rules):
        event["confidence_id"], event["confidence"] = 3, "High"
    if finding.review.explanation:
        event["enrichments"] = [_review(finding)]
    said = [one for one in (finding.decision, finding.comment) if one and one.reason]
    if said:
        event["comment"] = max(said, key=lambda one: one.decided_at).reason
    if kind == VULNERABILITY:
        return event | _vulnerability(finding, cwes)
    seen = {"evidences": [_evidence(place) for place in finding.places[:EVIDENCES]], "remediation": {"desc": finding.action}}
    return event | seen | (_compliance(finding, standards) if kind == COMPLIANCE else _detection(finding))


def standards_of(finding: Finding) -> list[tuple[str, str]]:
    """The standards that the finding's own rule names as its source, each with what it says there ('' for all of it)."""
    own = [part.strip() for rule in finding.rules if rule.rule == finding.rule for part in rule.source.split(";")]
    return [(match[1].strip(), match[2].strip()) for part in own if (match := STANDARD.match(part))]


def _metadata(finding: Finding, code_version: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "profiles": ["incident"],
        "product": {**PRODUCT, "version": code_version},
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
        "data_sources": ["Driftline probes"],
        "product": PRODUCT,
        "related_events": [{"uid": one, "type": "Driftline unit or observation"} for one in finding.evidence_ids],
        "related_events_count": len(finding.evidence_ids),
        "tags": [{"name": "baseline", "value": str(finding.baseline).lower()}, *({"name": "tag", "value": one} for one in finding.tags)],
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
        "labels": list(finding.tags),
        "role_id": 3,
        "role": "Affected",
    }
    if place.names:
        resource["hostname"] = place.names[0]
    if finding.owner:
        resource["owner"] = {"name": finding.owner}
    if finding.criticality:
        resource["criticality"] = finding.criticality
    return resource


def _observables(finding: Finding) -> list[dict[str, Any]]:
    named = [
        *(("resources.ip", "ip", one) for one in sorted({place.address for place in finding.places})),
        *(("resources.hostname", "hostname", one) for one in sorted({place.names[0] for place in finding.places if place.names})),
        *(("vulnerabilities.cve.uid", "cve", one) for one in finding.cves),
    ]
    return [{"name": name, "type_id": OBSERVABLES[kind][0], "type": OBSERVABLES[kind][1], "value": one} for name, kind, one in named]


def _unmapped(finding: Finding) -> dict[str, Any]:
    bounds = {"risk": finding.risk, "base_risk": finding.base_risk, "floor": finding.floor, "ceiling": finding.ceiling}
    rules = [{"rule": one.rule, "effect": one.effect, "input": one.input, "source": one.source} for one in finding.rules]
    words = {"rationale": finding.rationale, "rules": rules, "baseline": finding.baseline, "reopened": finding.reopened}
    decision = finding.decision
    if decision:
        until = {"until": decision.expires_at.isoformat()} if decision.expires_at else {}
        words["decision"] = {"kind": decision.kind.value, "by": decision.decided_by, "reason": decision.reason, **until}
    return bounds | words


def _review(finding: Finding) -> dict[str, Any]:
    review = finding.review
    return {
        "name": "finding_info.uid",
        "value": finding.finding_id,
        "type": "review by a language model",
        "provider": review.model,
        "desc": review.explanation,
        "data": {"prompt_hash": review.prompt_hash, "content_hash": review.content_hash},
    }


def _evidence(place: Place) -> dict[str, Any]:
    """The place as a network endpoint."""
    endpoint: dict[str, Any] = {"ip": place.address, "zone": place.zone}
    if place.port:
        endpoint["port"] = place.port
    if place.names:
        endpoint["hostname"] = place.names[0]
    transport = {"connection_info": {"protocol_name": place.transport.value, "direction_id": 0}} if place.port else {}
    return {"name": _where(place), "dst_endpoint": endpoint, **transport}


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
    shared: dict[str, Any] = {
        "title": finding.title,
        "desc": finding.why,
        "severity": SEVERITIES[finding.rank][1],
        "first_seen_time": _ms(finding.first_seen),
        "last_seen_time": _ms(finding.changed_at),
        "remediation": {"desc": finding.action},
        "references": sorted({rule.source for rule in finding.rules}),
        "vendor_name": "Driftline",
        "category": finding.rule,
    }
    if finding.rule == EXPLOITED:
        shared["is_exploit_available"] = True
    # exactly one of advisory, cve, cwe per entry
    named: list[dict[str, Any]] = [{"cve": _cve(cve)} for cve in finding.cves] or [{"cwe": _cwe(cwe)} for cwe in cwes]
    return {"vulnerabilities": [{**shared, **one} for one in named]}


def _cve(cve: str) -> dict[str, Any]:
    return {"uid": cve, "references": [f"https://www.cve.org/CVERecord?id={cve}"]}


def _cwe(cwe: str) -> dict[str, Any]:
    return {"uid": cwe, "src_url": f"https://cwe.mitre.org/data/definitions/{cwe.removeprefix('CWE-')}.html"}


def _compliance(finding: Finding, standards: list[tuple[str, str]]) -> dict[str, Any]:
    """The rule as a check of what a standard asks for: passed once the finding is resolved."""
    state = {"status_id": 1, "status": "Pass"} if finding.status == FindingStatus.RESOLVED else {"status_id": 3, "status": "Fail"}
    names = [name for name, _ in standards]
    severity, severity_name = SEVERITIES[finding.rank]
    check = {"uid": finding.rule, "name": finding.rule, "desc": finding.title, "standards": names, **state}
    return {
        "compliance": {
            "standards": names,
            "control": f"{standards[0][0]} {standards[0][1]}".strip(),
            "requirements": [f"{name} {where}".strip() for name, where in standards],
            "desc": finding.why,
            "status_details": [rule.input for rule in finding.rules if rule.rule == finding.rule],
            "checks": [{**check, "severity_id": severity, "severity": severity_name}],
            **state,
        }
    }


def _detection(finding: Finding) -> dict[str, Any]:
    return {
        "is_alert": finding.rank in (Rank.HIGH, Rank.CRITICAL) and finding.status == FindingStatus.OPEN and not finding.baseline,
        "risk_score": round(finding.risk),
        "risk_level_id": SEVERITIES[finding.rank][0] - 1,
        "risk_level": "Info" if finding.rank == Rank.INFO else SEVERITIES[finding.rank][1],
        "risk_details": finding.rationale,
    }


def _where(place: Place) -> str:
    address = f"[{place.address}]" if ":" in place.address else place.address
    return f"{address}:{place.port}/{place.transport.value}" if place.port else place.address


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
