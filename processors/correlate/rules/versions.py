"""Versions that are too old. A banner's version is a hint, not a proof: distributions mend old versions in place."""

from __future__ import annotations

from dataclasses import dataclass

from processors.correlate.adjustments import CRITICALITY, REACHABILITY
from processors.correlate.contract import Judgement, Rule, ServiceFacts, printable
from processors.correlate.ssvc import mission
from processors.correlate.urgency import Urgency, urgency
from processors.match.evidence import seen_in, upstream
from processors.match.matching import Match
from processors.match.rulings import Verdict
from processors.match.versions import compare
from schemas.events.findings import FiredRule
from schemas.events.observations import ServiceObservation

MOST_WHY = 600
MOST_CVES = 200


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
    for one in facts.tables.ended:
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


@dataclass(frozen=True, slots=True)
class Weighed:
    """A vulnerability that a service has or may have, and the risks that it gives the finding: one that only may be weighs less."""

    match: Match
    urgency: Urgency

    @property
    def sure(self) -> bool:
        """Whether the version is affected, as far as its evidence says."""
        return self.match.verdict is Verdict.AFFECTED

    @property
    def base(self) -> float:
        """The urgency, and by the confidence less where it is only possible: then at most 60, and at least 60 if it is in KEV."""
        if self.sure:
            return self.urgency.base
        base = self.urgency.base * (0.3 + 0.5 * self.match.confidence)
        return max(base, POSSIBLE_CEILING) if self.match.record.kev is True else min(base, POSSIBLE_CEILING)

    @property
    def bounds(self) -> tuple[float, float]:
        """Floor and ceiling."""
        if self.sure:
            return self.urgency.floor, self.urgency.ceiling
        return (30.0, 100.0) if self.match.record.kev is True else (5.0, POSSIBLE_CEILING)


POSSIBLE_CEILING = 60.0


def known_exploited(facts: ServiceFacts) -> Judgement | None:
    """The version is affected, or may be, by what attackers are known to use."""
    found = [one for one in facts.matches if one.record.kev is True]
    action = "Update now: CISA demands it of federal agencies by the date in its catalogue."
    return _judged(facts, found, "A vulnerability that attackers use", action) if found else None


def vulnerable(facts: ServiceFacts) -> Judgement | None:
    """The version is affected, or may be, by what CISA's catalogue does not list."""
    found = [one for one in facts.matches if one.record.kev is not True]
    if not found:
        return None
    sure = any(one.verdict is Verdict.AFFECTED for one in found)
    action = "Update to a version that mends them, or take the service out of reach." if sure else "Confirm which fixes the host has."
    return _judged(facts, found, "A version with known vulnerabilities", action)


def _judged(facts: ServiceFacts, found: list[Match], title: str, action: str) -> Judgement:
    """One judgement on all of these vulnerabilities, the worst first; the worst gives the base, all together the bounds."""
    at = mission(facts.inventory)
    worst = sorted((Weighed(one, urgency(one.record, at)) for one in found), key=lambda one: (-one.base, one.match.cve))
    affected = [one for one in worst if one.sure]
    shown, leading = (affected or worst)[0].match, worst[0]
    counted = [f"{len(affected)} affect{'s' if len(affected) == 1 else ''} this version"] if affected else []
    counted += [f"{len(worst) - len(affected)} may, which its banner can't decide"] if len(affected) < len(worst) else []
    why = f"Of the known vulnerabilities {' and '.join(counted)}. {shown.cve}: {shown.reason}."
    cves = tuple(one.match.cve for one in (*affected, *(one for one in worst if not one.sure)))
    # Not the worst's word alone, nor of what is in KEV, nor of this rule's part of them: a vulnerability that gets worse, or moves to
    # the other rule because KEV lists it now, must lower no rank.
    local = all(urgency(one.record, at).local and one.record.kev is not True for one in facts.matches)
    floors, ceilings = zip(*(one.bounds for one in worst), strict=True)
    return Judgement(
        title,
        printable(why, MOST_WHY),
        printable(f"{action} {shown.confirm}", MOST_WHY).strip(),
        base=leading.base,
        floor=min(max(floors), leading.base),
        ceiling=max(ceilings),
        saw=f"{facts.label}; {', '.join(cves[:5])}{' and more' if len(cves) > 5 else ''}; {shown.reason}",
        cves=cves[:MOST_CVES],
        steps=_steps(leading, local),
        counted=frozenset((CRITICALITY.name, REACHABILITY.name) if local else (CRITICALITY.name,)),
    )


def _steps(leading: Weighed, local: bool) -> tuple[FiredRule, ...]:
    """How the base came about, of the vulnerability that gives it."""
    first, *others = leading.urgency.steps
    steps = [first.model_copy(update={"input": f"{leading.match.cve}: {first.input}"}), *others]
    if not leading.sure:
        said = f"possible, confidence {leading.match.confidence:.2f}"
        steps.append(FiredRule(rule="match-confidence", effect=f"base {leading.base:.1f}", input=said, source="processors/match"))
    if local:
        steps.append(
            FiredRule(rule="local-attack", effect="reachability is not counted", input="CVSS AV:L or AV:P", source="CVSS v3.1, 2.1.1")
        )
    return tuple(steps)


RULES = (
    Rule(
        "known-exploited",
        "CISA BOD 22-01 and the Known Exploited Vulnerabilities catalogue; CISA SSVC Guide",
        "The version is affected by a vulnerability that CISA's catalogue lists (`kev` of `intel`): the base that SSVC gives, at least 80 "
        "with a floor of 65. At least 60 with a floor of 30 where it only may be: the banner names a distribution that mends old versions "
        "in place, or the sources can't be compared or disagree.",
        known_exploited,
    ),
    Rule(
        "vulnerable-version",
        "CISA SSVC Guide; CVE JSON 5.x `affected`, NVD configurations",
        "The version is affected by other known vulnerabilities, or may be: one finding a service, the worst CVE first. Base, floor and "
        "ceiling follow from SSVC (see below); where no CVE is more than possible the base is less, by the confidence, and at most 60.",
        vulnerable,
    ),
    Rule(
        "end-of-life",
        "CWE-1104; CIS Controls v8, 2.2",
        "The version is below the last one that still gets security fixes (a small table, which your own file may change).",
        end_of_life,
    ),
)
