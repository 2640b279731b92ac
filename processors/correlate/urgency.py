"""From SSVC's decision to a base risk, a floor and a ceiling: the decision gives the band, what else is known the place in it. Pure.

The bands follow the ranks, so that Act is critical and Attend high. The weights within a band are a judgement, not fitted to data:
what is known of attacks to come (EPSS) before how bad one would be (CVSS), then what the points of the decision say themselves.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from processors.correlate.ssvc import GUIDE, Action, Decision, Evidence, Point, decide, evidence_in, metrics_of
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
"""Weights of the place within a band."""
UNKNOWN = 0.75
"""What an unknown EPSS percentile, or a tenth of an unknown CVSS score, counts as: no feed must make a vulnerability look harmless."""
EXPLOITED = (65.0, 40.0)
LISTED = (80.0, 65.0)
"""Least base risk and floor of what is known to be attacked, and of what KEV lists, whatever else the decision says."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """The risk of a vulnerability that a service has, 0 ≤ floor ≤ base ≤ ceiling ≤ 100, and each step that led to it.

    `local`: whoever attacks must be on the host already, so that it does not count from where the service can be reached.
    """

    base: float
    floor: float
    ceiling: float
    decision: Decision
    steps: tuple[FiredRule, ...]
    local: bool = False


def urgency(record: IntelRecord, mission: Point) -> Urgency:
    """How urgent a vulnerability is at an asset of this mission, before where it is reachable from and what is new are counted."""
    return _urgency(evidence_in(record), mission)


@functools.lru_cache(maxsize=1 << 14)
def _urgency(known: Evidence, mission: Point) -> Urgency:
    decision = decide(known, mission)
    band = BANDS[decision.action]
    place, seen = within(known, decision)
    base, floor = band.low + (band.high - band.low) * place, band.floor
    steps = [one.fired() for one in decision.points]
    effect = f"{decision.action}: base {band.low:g} to {band.high:g}, floor {band.floor:g}, ceiling {band.ceiling:g}"
    counted = ", ".join(one.counted for one in decision.points)
    steps.append(FiredRule(rule="ssvc-decision", effect=effect, input=counted, source=f"{GUIDE}, decision table"))
    steps.append(FiredRule(rule="within-band", effect=f"base {base:.1f}", input=seen, source="weights: docs/explanation/ranking.md"))
    ceiling = band.ceiling
    if decision.exploited:
        least, lowest = LISTED if known.kev else EXPLOITED
        base, floor, ceiling = max(base, least), max(floor, lowest), 100.0
        rule, source = ("listed-in-kev", "CISA BOD 22-01") if known.kev else ("attacked", GUIDE)
        effect = f"base at least {least:g}, floor at least {lowest:g}, ceiling 100"
        steps.append(FiredRule(rule=rule, effect=effect, input="attacks are known", source=source))
    local = metrics_of(known.vector).get("AV") in ("L", "P")
    return Urgency(round(base, 3), floor, ceiling, decision, tuple(steps), local)


def _below(percentile: float) -> str:
    """A percentile in words, rounded down: no CVE is above 100% of all."""
    tenths = math.floor(round(percentile * 1000, 6))
    return f"{min(tenths, 999) / 10:g}%"


def within(known: Evidence, decision: Decision) -> tuple[float, str]:
    """The place in the band, 0 to 1, and what it rests on in words."""
    attack, automatable, impact, _ = (one.counted for one in decision.points)
    percentile = UNKNOWN if known.percentile is None else known.percentile
    score = UNKNOWN if known.cvss is None else known.cvss / 10
    place = EPSS * percentile + CVSS * score
    place += AUTOMATABLE * (automatable == "yes") + IMPACT * (impact == "total")
    place += EXPLOITATION * {"none": 0.0, "poc": 0.5, "active": 1.0}[attack]
    epss = f"EPSS unknown, counts as {UNKNOWN:.0%}" if known.percentile is None else f"EPSS above {_below(percentile)} of all CVEs"
    cvss = f"CVSS unknown, counts as {10 * UNKNOWN:g}" if known.cvss is None else f"CVSS {known.cvss:g}"
    return place, f"{place:.0%} of the band: {epss}, {cvss}"
