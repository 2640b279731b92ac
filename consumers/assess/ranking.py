"""From risks to ranks, the bounds of whoever moves a risk, and the rationale in words. Pure."""

from __future__ import annotations

import math

from schemas.events.findings import Exposure, Rank

THRESHOLDS = ((85.0, Rank.CRITICAL), (65.0, Rank.HIGH), (40.0, Rank.MEDIUM), (15.0, Rank.LOW), (0.0, Rank.INFO))
STEP = 0.1
"""Risks have one decimal."""


def rank_of(risk: float) -> Rank:
    """The level of urgency of a risk 0–100."""
    return next((rank for least, rank in THRESHOLDS if risk >= least), Rank.INFO)


def highest_for_model(base: float, ceiling: float) -> float:
    """How high a model may move a risk: to the ceiling, and at most one rank above that of the base risk."""
    place = next(number for number, (_, rank) in enumerate(THRESHOLDS) if rank is rank_of(base))
    top = 100.0 if place <= 1 else THRESHOLDS[place - 2][0] - STEP
    return min(ceiling, top)


def bounded(risk: float, floor: float, ceiling: float) -> float:
    """The risk within bounds, to one decimal. What is no number counts as the upper bound: a broken answer never calms anyone."""
    if math.isnan(risk):
        return ceiling
    return round(min(max(risk, floor), ceiling), 1)


def by_model(risk: float, base: float, floor: float, ceiling: float) -> float:
    """A model's risk within all its bounds."""
    return bounded(risk, floor, highest_for_model(base, ceiling))


def rationale(worst: Exposure, places: int, moved: str = "") -> str:
    """How the risk came about, in sentences: what each rule did, where it is worst, who moved it."""
    steps = "; ".join(f"{one.rule}: {one.effect} ({one.input})" for one in worst.rules)
    where = f"{worst.place.address}:{worst.place.port}/{worst.place.transport.value}" if worst.place.port else worst.place.address
    spread = f"At {where}." if places == 1 else f"At {places} places, worst at {where}."
    return " ".join(part for part in (f"{steps}.", spread, moved) if part)
