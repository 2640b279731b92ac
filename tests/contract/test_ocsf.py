"""Findings as OCSF: valid against the published definitions, in every status, rank and class."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumers.notify.ocsf import COMPLIANCE, DETECTION, VULNERABILITY, standards_of, to_ocsf
from processors.correlate.adjustments import PROOF
from processors.correlate.catalogue import BUILT_IN
from schemas.events.findings import Decision, DecisionKind, Finding, FindingStatus, FiredRule, Place, Rank, Review, ReviewStatus
from tests.contract.ocsf_definitions import ARCHIVE, definitions

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
needs_definitions = pytest.mark.skipif(not ARCHIVE.exists(), reason="OCSF's definitions are not beside this checkout (shared/data)")


def finding(**over: object) -> Finding:
    fields: dict[str, object] = {
        "finding_id": "ab" * 16,
        "revision": 1,
        "status": FindingStatus.OPEN,
        "zone": "default",
        "rule": "redis-without-password",
        "subject": "198.18.1.13:tcp/6379",
        "title": "Redis answers without a password",
        "why": "Anyone who reaches it can read and write everything.",
        "action": "Set requirepass.",
        "places": (
            Place(zone="default", address="198.18.1.13", port=6379),
            Place(zone="default", address="2001:db8::1", names=("a.test",)),
        ),
        "base_risk": 90.0,
        "floor": 70.0,
        "ceiling": 100.0,
        "risk": 90.0,
        "rank": Rank.CRITICAL,
        "rationale": "base 90",
        "rules": (FiredRule(rule="redis-without-password", effect="base 90", input="redis.auth=none", source="CWE-306"),),
        "owner": "cache team",
        "criticality": "high",
        "evidence_ids": ("e1",),
        "first_seen": AT,
        "changed_at": AT,
    }
    return Finding.model_validate(fields | over)


PLAIN = (FiredRule(rule="new-host", effect="base 10", input="host", source="our own"),)
PROVED = FiredRule(rule=PROOF.name, effect="floor 70", input="shown by a probe", source=PROOF.source)


def under(rule: str, source: str, **over: object) -> Finding:
    """A finding of this rule."""
    return finding(rule=rule, rules=(FiredRule(rule=rule, effect="base 50", input="what was seen", source=source), PROVED), **over)


CLASSES = {VULNERABILITY: "vulnerability_finding", COMPLIANCE: "compliance_finding", DETECTION: "detection_finding"}
CASES = [
    finding(),
    finding(rules=PLAIN, rank=Rank.INFO, risk=5.0),
    finding(cves=("CVE-2024-0001", "CVE-2024-0002"), revision=4),
    under("known-exploited", "CISA BOD 22-01", cves=("CVE-2024-0001",)),
    finding(tags=("dmz", "web"), baseline=True, reopened=2),
    finding(review=Review(status=ReviewStatus.DONE, content_hash="c", model="m", prompt_hash="p", explanation="Because.")),
    *(under(one.name, one.source, status=status) for one in BUILT_IN for status in (FindingStatus.OPEN, FindingStatus.RESOLVED)),
    *(finding(status=status, revision=2) for status in FindingStatus),
    *(finding(rank=rank, rules=PLAIN) for rank in Rank),
    *(
        finding(decision=Decision(decision_id="d", finding_id="f", kind=kind, reason="r", decided_by="bob", decided_at=AT), assignee="ann")
        for kind in DecisionKind
    ),
]


@needs_definitions
@pytest.mark.parametrize("case", CASES)
def test_every_finding_is_valid(case: Finding) -> None:
    event = to_ocsf(case, "0.1.0")
    kind = CLASSES[event["class_uid"]]
    assert definitions().problems(event, kind) == []


@needs_definitions
def test_the_check_sees_what_is_wrong() -> None:
    event = to_ocsf(finding(), "0.1.0")
    broken = {
        "unknown": {**event, "colour": "red"},
        "type": {**event, "time": "now"},
        "enum": {**event, "severity_id": 7},
        "missing": {key: value for key, value in event.items() if key != "finding_info"},
        "constraint": {**event, "vulnerabilities": [{"title": "no cve, no cwe"}]},
        "nested": {**event, "resources": [{"name": "a", "ip": 7}]},
    }
    for name, one in broken.items():
        assert definitions().problems(one, "vulnerability_finding"), name


def test_a_cwe_makes_it_a_vulnerability_and_its_absence_a_detection() -> None:
    assert to_ocsf(finding(), "0")["vulnerabilities"][0]["cwe"]["uid"] == "CWE-306"
    assert to_ocsf(finding(rules=PLAIN), "0")["class_uid"] == DETECTION


def test_what_attackers_use_has_an_exploit_and_of_the_rest_nothing_is_said() -> None:
    listed, other = (
        to_ocsf(under(rule, "CISA SSVC Guide", cves=("CVE-2024-1", "CVE-2024-2")), "0")
        for rule in ("known-exploited", "vulnerable-version")
    )
    assert [one["is_exploit_available"] for one in listed["vulnerabilities"]] == [True, True]
    assert all("is_exploit_available" not in one for one in other["vulnerabilities"])


@pytest.mark.parametrize(
    ("rule", "source", "kind"),
    [
        ("management-reachable", "CISA BOD 23-02; CIS Controls v8, 4.4 and 12.8", COMPLIANCE),
        ("service-unexpected", "CIS Controls v8, 2.3 and 4.8; NIST SP 800-53 CM-7", COMPLIANCE),
        ("service-new", "CIS Controls v8, 1.1 and 13.6", DETECTION),
        ("service-flapping", "NIST SP 800-137", DETECTION),
        ("tls-outdated", "RFC 8996; NIST SP 800-52r2, 3.1; CWE-327", VULNERABILITY),
        ("someones-own", "we say so", DETECTION),
    ],
)
def test_the_class_is_what_the_rule_is(rule: str, source: str, kind: int) -> None:
    assert to_ocsf(under(rule, source), "0")["class_uid"] == kind


def test_a_compliance_finding_names_the_standards_and_passes_once_resolved() -> None:
    case = under("service-unexpected", "CIS Controls v8, 2.3 and 4.8; NIST SP 800-53 CM-7")
    assert standards_of(case) == [("CIS Controls v8", "2.3 and 4.8"), ("NIST SP 800-53", "CM-7")]
    compliance = to_ocsf(case, "0")["compliance"]
    assert compliance["requirements"] == ["CIS Controls v8 2.3 and 4.8", "NIST SP 800-53 CM-7"]
    assert (compliance["status_id"], compliance["checks"][0]["status_id"]) == (3, 3)
    assert to_ocsf(case.model_copy(update={"status": FindingStatus.RESOLVED}), "0")["compliance"]["status"] == "Pass"


def test_nobody_is_alerted_of_the_baseline_and_work_in_hand_is_in_progress() -> None:
    case = under("service-new", "CIS Controls v8, 1.1")
    assert to_ocsf(case, "0")["is_alert"]
    assert not to_ocsf(case.model_copy(update={"baseline": True}), "0")["is_alert"]
    assert to_ocsf(case.model_copy(update={"assignee": "ann"}), "0")["status"] == "In Progress"
    assert to_ocsf(case, "0")["confidence"] == "High"
