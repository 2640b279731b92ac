"""What moves a rule's base risk: whose the asset is, where it is, whether it is new, whether it is proved. Pure."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass

from processors.correlate.contract import EVIDENCE_LIMIT, Judgement, ServiceFacts, printable
from schemas.events.context import Criticality
from schemas.events.findings import FiredRule

BY_CRITICALITY = {Criticality.LOW: -10.0, Criticality.NORMAL: 0.0, Criticality.HIGH: 5.0, Criticality.CRITICAL: 10.0}
OUTSIDE = {"internet": 10.0, "external": 10.0, "public": 10.0, "dmz": 5.0}
PROOF_FLOOR = 20.0
"""A proved exposure can't be argued further down than this below its base."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The documentation of one adjustment."""

    name: str
    source: str
    doc: str


CRITICALITY = Adjustment("asset-criticality", "NIST SP 800-30r1, appendix H", "Critical assets +10, high +5, low −10 (from `inventory`).")
REACHABILITY = Adjustment(
    "reachability",
    "CISA BOD 23-02; CVSS v3.1, attack vector",
    "Seen from a zone whose name holds `internet`, `external` or `public`, or at a public address: +10; `dmz`: +5.",
)
NOVELTY = Adjustment("novelty", "CIS Controls v8, 13.6", "Opened in the last 7 days on a host that was known before: +5.")
PROOF = Adjustment("proof", "NIST SP 800-115, 5", f"Shown by a harmless probe: the floor is at least the rule's base − {PROOF_FLOOR:.0f}.")
ADJUSTMENTS = (CRITICALITY, REACHABILITY, NOVELTY, PROOF)


@dataclass(frozen=True, slots=True)
class Risk:
    """Risks after all adjustments, 0 ≤ floor ≤ base ≤ ceiling ≤ 100, and every rule that had a part in them."""

    base: float
    floor: float
    ceiling: float
    fired: tuple[FiredRule, ...]


def adjust(rule: str, source: str, judgement: Judgement, facts: ServiceFacts) -> Risk:
    """The judgement's risks, moved by what is known of the asset, within the rule's own bounds."""
    ceiling = clamp(judgement.ceiling, 0, 100)
    floor = clamp(judgement.floor, 0, ceiling)
    base = clamp(judgement.base, floor, ceiling)
    fired = [FiredRule(rule=rule, effect=f"base {base:g}", input=printable(judgement.saw, EVIDENCE_LIMIT), source=source), *judgement.steps]
    if judgement.proven and base - PROOF_FLOOR > floor:
        floor = round(base - PROOF_FLOOR, 1)
        fired.append(FiredRule(rule=PROOF.name, effect=f"floor {floor:g}", input="shown by a probe", source=PROOF.source))
    for adjustment, points, saw in moves(facts):
        if adjustment.name in judgement.counted:
            continue
        moved = clamp(base + points, floor, ceiling)
        if moved != base:
            fired.append(FiredRule(rule=adjustment.name, effect=f"{moved - base:+g}", input=saw, source=adjustment.source))
        base = moved
    return Risk(base, floor, ceiling, tuple(fired))


def moves(facts: ServiceFacts) -> list[tuple[Adjustment, float, str]]:
    """The adjustments that apply, their points, and what they looked at."""
    found: list[tuple[Adjustment, float, str]] = []
    if facts.inventory and BY_CRITICALITY[facts.inventory.criticality]:
        saw = f"criticality {facts.inventory.criticality} of {printable(facts.inventory.network, 60)}"
        found.append((CRITICALITY, BY_CRITICALITY[facts.inventory.criticality], saw))
    points = max((points for word, points in OUTSIDE.items() if word in facts.zone.lower()), default=0.0)
    if points:
        found.append((REACHABILITY, points, f"zone {printable(facts.zone, 60)}"))
    elif ipaddress.ip_address(facts.address).is_global:
        found.append((REACHABILITY, 10.0, "a public address"))
    if facts.new:
        found.append((NOVELTY, 5.0, "opened in the last 7 days"))
    return found


def clamp(value: float, low: float, high: float) -> float:
    """The value within bounds, to one decimal; not-a-number counts as the lower bound."""
    return low if math.isnan(value) else round(min(max(value, low), high), 1)
