"""How far the derived points of SSVC agree with CISA's own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from rich.console import Console
from rich.progress import track

from bench.rules_records import Case
from processors.correlate.ssvc import TABLE, Action, Evidence, decide, evidence_in, metrics_of, mission

SCALES = {"exploitation": ("none", "poc", "active"), "automatable": ("no", "yes"), "technical-impact": ("partial", "total")}
ACTIONS = tuple(one.value for one in Action)
ROUNDS, Z = 1000, 1.96
Interval = tuple[float, float, float]
"""A figure and its interval of 95 %."""
COUNTED = (
    "records",
    "no_vector",
    "poc_by_cisa",
    "exploit_by_vector_but_none_by_cisa",
    "in_kev_but_none_by_cisa",
    "easy_but_not_automatable_by_cisa",
    "not_easy_but_automatable_by_cisa",
    "full_but_partial_by_cisa",
    "not_full_but_total_by_cisa",
)
Pair = tuple[str, str]
"""What was derived, and what CISA says."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two agree on a point."""

    point: str
    counted: str
    n: int
    share: Interval
    kappa: Interval | None


def agreements(found: Sequence[Case], kev: dict[str, int]) -> tuple[list[Agreement], dict[str, int]]:
    """Point by point: where it was derived; where what is unknown counts as the worse; exploitation with what KEV does not list as none."""
    judged = [one for one in found if all(one.cisa)]
    rows: dict[tuple[str, str], list[Pair]] = {}
    limits: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    for one in track(judged, "agreement", console=Console(stderr=True), transient=True):
        known = evidence_in(one.bare)._replace(kev=one.bare.cve in kev)
        decision = decide(known, mission(None))
        for point, said in zip(decision.points, one.cisa, strict=False):
            if point.value:
                rows.setdefault((point.name, "where it was derived"), []).append((point.value, said))
            rows.setdefault((point.name, "unknown as the worse"), []).append((point.counted, said))
        plain = "active" if known.kev else "none"
        rows.setdefault(("exploitation", "not in KEV as none"), []).append((plain, one.cisa[0]))
        theirs = TABLE[one.cisa][1].value
        rows.setdefault(("action", "unknown as the worse"), []).append((decision.action.value, theirs))
        counted = (plain, decision.points[1].counted, decision.points[2].counted)
        rows.setdefault(("action", "not in KEV as none"), []).append((TABLE[counted][1].value, theirs))
        note(limits, one, known)
    told = [agreement(name, how, pairs, SCALES.get(name, ACTIONS)) for (name, how), pairs in sorted(rows.items())]
    return told, dict(limits)


def note(limits: Counter[str], one: Case, known: Evidence) -> None:
    """Count what the derivation can't see, or sees otherwise than CISA."""
    exploitation, automatable, impact = one.cisa
    metrics = metrics_of(known.vector)
    limits["records"] += 1
    limits["no_vector"] += not metrics
    limits["poc_by_cisa"] += exploitation == "poc"
    limits["exploit_by_vector_but_none_by_cisa"] += metrics.get("E") in ("P", "F", "H") and exploitation == "none"
    limits["in_kev_but_none_by_cisa"] += known.kev and exploitation != "active"
    if metrics:
        points = decide(known, mission(None)).points
        limits["easy_but_not_automatable_by_cisa"] += points[1].value == "yes" and automatable == "no"
        limits["not_easy_but_automatable_by_cisa"] += points[1].value == "no" and automatable == "yes"
        limits["full_but_partial_by_cisa"] += points[2].value == "total" and impact == "partial"
        limits["not_full_but_total_by_cisa"] += points[2].value == "partial" and impact == "total"


def agreement(point: str, counted: str, pairs: Sequence[Pair], scale: Sequence[str]) -> Agreement:
    """Share of equal values and weighted kappa, with their intervals."""
    same = sum(ours == theirs for ours, theirs in pairs)
    whole = kappa(pairs, scale)
    chance = random.Random(6)  # noqa: S311 (no secret)
    rounds = [kappa(chance.choices(pairs, k=len(pairs)), scale) for _ in range(ROUNDS)] if whole is not None else []
    sure = sorted(one for one in rounds if one is not None)
    interval = (whole, sure[int(0.025 * len(sure))], sure[int(0.975 * len(sure))]) if whole is not None and sure else None
    return Agreement(point, counted, len(pairs), wilson(same, len(pairs)), interval)


def kappa(pairs: Sequence[Pair], scale: Sequence[str]) -> float | None:
    """Cohen's kappa with linear weights (Psychological Bulletin 70, 1968); None where chance alone leaves no disagreement."""
    n = len(pairs)
    ours, theirs = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    seen = sum(abs(scale.index(one) - scale.index(other)) * count for (one, other), count in Counter(pairs).items()) / n
    chance = sum(abs(i - j) * ours[one] * theirs[other] for i, one in enumerate(scale) for j, other in enumerate(scale)) / n**2
    return 1 - seen / chance if chance else None


def wilson(hits: float, n: int) -> Interval:
    """A share and Wilson's interval (JASA 22, 1927)."""
    if not n:
        return 0.0, 0.0, 1.0
    share = hits / n
    middle, spread = share + Z**2 / (2 * n), Z * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return share, (middle - spread) / (1 + Z**2 / n), (middle + spread) / (1 + Z**2 / n)
