"""From SSVC's decision to a base risk, a floor and a ceiling: the decision gives the band, what else is known the place in it. Pure.

The bands follow the ranks, so that Act is critical and Attend high. The weights within a band are a judgement, not fitted to data:
what is known of attacks to come (EPSS) before how bad one would be (CVSS), then what the points of the decision say themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from processors.correlate.ssvc import GUIDE, Action, Decision, Evidence, Point, decide, evidence_in
from schemas.events.findings import FiredRule
from schemas.events.intel import IntelRecord


@dataclass(frozen=True, slots=True)
class Band:
    """Base risks of an action from `low` to `high`, and how far a model or a person may move them."""

    low: float
    high: float
    floor: float
    ceiling: float


BANDS = {
    Action.TRACK: Band(20, 55, 5, 65),
    Action.TRACK_CLOSELY: Band(45, 64.9, 25, 84.9),
    Action.ATTEND: Band(65, 84.9, 45, 100),
    Action.ACT: Band(85, 100, 65, 100),
}
EPSS, CVSS, AUTOMATABLE, IMPACT, EXPLOITATION = 0.35, 0.25, 0.15, 0.15, 0.10
"""Weights of the place within a band; what is unknown of the first two is left out, and the others count for the whole."""
EXPLOITED = (65.0, 40.0)
LISTED = (80.0, 65.0)
"""Least base risk and floor of what is known to be attacked, and of what KEV lists, whatever else the decision says."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """The risk of a vulnerability that a service has, 0 ≤ floor ≤ base ≤ ceiling ≤ 100, and each step that led to it."""

    base: float
    floor: float
    ceiling: float
    decision: Decision
    steps: tuple[FiredRule, ...]


def urgency(record: IntelRecord, mission: Point) -> Urgency:
    """How urgent a vulnerability is at an asset of this mission, before where it is reachable from and what is new are counted."""
    known = evidence_in(record)
    decision = decide(known, mission)
    band = BANDS[decision.action]
    place, seen = within(known, decision)
    base, floor = band.low + (band.high - band.low) * place, band.floor
    steps = [one.fired() for one in decision.points]
    effect = f"{decision.action}: base {band.low:g} to {band.high:g}, floor {band.floor:g}, ceiling {band.ceiling:g}"
    counted = ", ".join(one.counted for one in decision.points)
    steps.append(FiredRule(rule="ssvc-decision", effect=effect, input=counted, source=f"{GUIDE}, decision table"))
    steps.append(FiredRule(rule="within-band", effect=f"base {base:.1f}", input=seen, source="weights: docs/explanation/ranking.md"))
    least, lowest, rule, source = 0.0, 0.0, "", ""
    if known.kev:
        (least, lowest), rule, source = LISTED, "listed-in-kev", "CISA BOD 22-01"
    elif decision.exploited:
        (least, lowest), rule, source = EXPLOITED, "attacked", GUIDE
    if base < least or floor < lowest:
        base, floor = max(base, least), max(floor, lowest)
        steps.append(FiredRule(rule=rule, effect=f"base at least {least:g}, floor at least {lowest:g}", input="attacks are known", source=source))
    return Urgency(round(base, 1), floor, max(band.ceiling, least), decision, tuple(steps))


def within(known: Evidence, decision: Decision) -> tuple[float, str]:
    """The place in the band, 0 to 1, and what it rests on in words."""
    attack, automatable, impact, _ = (one.counted for one in decision.points)
    parts = [
        (AUTOMATABLE, 1.0 if automatable == "yes" else 0.0),
        (IMPACT, 1.0 if impact == "total" else 0.0),
        (EXPLOITATION, {"none": 0.0, "poc": 0.5, "active": 1.0}[attack]),
    ]
    words = ["EPSS unknown", "CVSS unknown"]
    if known.percentile is not None:
        parts.append((EPSS, known.percentile))
        words[0] = f"EPSS above {known.percentile:.0%} of all CVEs"
    if known.cvss is not None:
        parts.append((CVSS, known.cvss / 10))
        words[1] = f"CVSS {known.cvss:g}"
    return sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts), ", ".join(words)
