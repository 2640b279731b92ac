"""Versions that are too old. A banner's version is a hint, not a proof: distributions mend old versions in place."""

from __future__ import annotations

from dataclasses import dataclass

from processors.correlate.contract import Judgement, Rule, ServiceFacts, printable
from processors.match.evidence import seen_in, upstream
from processors.match.matching import Match
from processors.match.rulings import Verdict
from processors.match.versions import compare
from schemas.events.intel import IntelRecord
from schemas.events.observations import ServiceObservation

MOST_WHY = 600
MOST_CVES = 200


@dataclass(frozen=True, slots=True)
class EndOfLife:
    """Product (in the words of the service's banner) whose versions below `below` get no more fixes, since when, and who says so."""

    product: str
    below: str
    since: str
    source: str


# Only what no supported distribution still maintains, so that the rule stays silent on mended old versions. Dates lie before the release.
ENDED = (
    EndOfLife("Apache httpd", "2.4", "2017-12-31", "httpd.apache.org"),
    EndOfLife("Apache Tomcat", "9.0", "2024-03-31", "tomcat.apache.org"),
    EndOfLife("Microsoft IIS httpd", "10.0", "2023-10-10", "learn.microsoft.com/lifecycle"),
    EndOfLife("MySQL", "8.0", "2023-10-25", "mysql.com/support/eol-notice"),
    EndOfLife("MongoDB", "5.0", "2024-02-29", "mongodb.com/legal/support-policy"),
    EndOfLife("PostgreSQL DB", "12", "2023-11-09", "postgresql.org/support/versioning"),
    EndOfLife("Elasticsearch REST API", "7.0", "2022-02-10", "elastic.co/support/eol"),
    EndOfLife("OpenSSH", "7.4", "2016-12-19", "openssh.com/releasenotes"),
    EndOfLife("Redis key-value store", "6.0", "2022-04-27", "redis.io/docs/about/releases"),
    EndOfLife("nginx", "1.14", "2018-04-17", "nginx.org/en/CHANGES"),
)


def older(left: str, right: str) -> bool | None:
    """Whether one version is older than another; None if one of them can't be read."""
    order = compare(upstream(left), upstream(right))
    return None if order is None else order < 0


def backported(service: ServiceObservation) -> bool:
    """Whether the version says little, because the banner names a distribution that mends old versions in place."""
    return bool(seen_in(service).builder)


def end_of_life(facts: ServiceFacts) -> Judgement | None:
    """The version gets no more fixes."""
    service = facts.service
    if backported(service):
        return None
    for one in ENDED:
        if service.product == one.product and older(service.version, one.below):
            return Judgement(
                "Software that gets no more security fixes",
                f"{one.product} below {one.below} has had no fixes since {one.since}: flaws found since then stay open.",
                "Upgrade to a supported version, or take the service down.",
                base=60,
                floor=35,
                ceiling=85,
                saw=f"{facts.label}; {one.source}",
            )
    return None


def known_exploited(facts: ServiceFacts) -> Judgement | None:
    """The version is affected, or may be, by what attackers are known to use."""
    found = [one for one in facts.matches if one.record.kev is True]
    if not found:
        return None
    return _judged(
        facts,
        found,
        "A vulnerability that attackers use",
        "Update now: CISA demands it of federal agencies by the date in its catalogue.",
        (88, 65, 100) if any(one.verdict is Verdict.AFFECTED for one in found) else (60, 30, 100),
    )


def vulnerable(facts: ServiceFacts) -> Judgement | None:
    """The version is affected, or may be, by what nobody is known to use."""
    found = [one for one in facts.matches if one.record.kev is not True]
    if not found:
        return None
    base = max(map(weight, found))
    sure = any(one.verdict is Verdict.AFFECTED for one in found)
    return _judged(
        facts,
        found,
        "A version with known vulnerabilities",
        "Update to a version that mends them, or take the service out of reach." if sure else "Confirm which fixes the host has.",
        (base, base * 0.4, min(base + 20, 95)) if sure else (base, 5, 60),
    )


def danger(record: IntelRecord) -> float:
    """How bad a vulnerability is where it is, 0–84: CVSS × 8, a little more where SSVC says that attacks exist or run by themselves."""
    base = 40.0 if record.cvss is None else record.cvss * 8
    base += {"active": 15, "poc": 3}.get(record.ssvc_exploitation, 0) + (3 if record.ssvc_automatable == "yes" else 0)
    return min(base, 84.0)


def weight(one: Match) -> float:
    """What a match counts: the danger, and for one that is only possible less, by its confidence."""
    return danger(one.record) * (1.0 if one.verdict is Verdict.AFFECTED else 0.3 + 0.5 * one.confidence)


def _judged(facts: ServiceFacts, found: list[Match], title: str, action: str, risks: tuple[float, float, float]) -> Judgement:
    """One judgement on all of these vulnerabilities, the worst first."""
    worst = sorted(found, key=lambda one: (-weight(one), one.cve))
    affected = [one for one in worst if one.verdict is Verdict.AFFECTED]
    first = (affected or worst)[0]
    counted = [f"{len(affected)} affect this version"] if affected else []
    counted += [f"{len(worst) - len(affected)} may, which its banner can't decide"] if len(affected) < len(worst) else []
    why = f"Of the known vulnerabilities {' and '.join(counted)}. {first.cve}: {first.reason}."
    cves = tuple(one.cve for one in (*affected, *(one for one in worst if one not in affected)))
    return Judgement(
        title,
        printable(why, MOST_WHY),
        printable(f"{action} {first.confirm}", MOST_WHY).strip(),
        base=risks[0],
        floor=risks[1],
        ceiling=risks[2],
        saw=f"{facts.label}; {', '.join(cves[:5])}{' and more' if len(cves) > 5 else ''}; {first.reason}",
        cves=cves[:MOST_CVES],
    )


RULES = (
    Rule(
        "known-exploited",
        "CISA BOD 22-01 and the Known Exploited Vulnerabilities catalogue",
        "The version is affected by a vulnerability that is known to be exploited (from `intel`); 60 instead of 88 where it only may be: "
        "the banner names a distribution that mends old versions in place, or the sources can't be compared or disagree.",
        known_exploited,
    ),
    Rule(
        "vulnerable-version",
        "CVE JSON 5.x `affected`, NVD configurations; CVSS; CISA's SSVC",
        "The version is affected by other known vulnerabilities, or may be: one finding a service, the worst CVE first. The base is CVSS "
        "× 8 (40 without a score), +15 or +3 where SSVC knows attacks or a proof of concept, +3 where they run by themselves, at most 84; "
        "less than that, by the confidence, where no CVE is more than possible.",
        vulnerable,
    ),
    Rule(
        "end-of-life",
        "CWE-1104; CIS Controls v8, 2.2",
        "The version is below the last one that still gets security fixes (a small table in the module).",
        end_of_life,
    ),
)
