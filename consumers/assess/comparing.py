"""Another model or prompt beside what was answered: where they differ, and what each costs. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from consumers.assess.ranking import rank_of
from schemas.events.findings import Finding, ModelExchange


@dataclass(frozen=True, slots=True)
class Pair:
    """One question, as it was answered and as it would be."""

    finding: Finding
    before: ModelExchange
    after: ModelExchange

    @property
    def risks(self) -> tuple[float, float]:
        """The finding's risk by either; an answer that can't be used leaves the base risk."""
        return _risk(self.finding, self.before), _risk(self.finding, self.after)

    def row(self) -> dict[str, Any]:
        """What is shown of it."""
        was, would_be = self.risks
        return {
            "finding_id": self.finding.finding_id,
            "title": self.finding.title,
            "base": self.finding.base_risk,
            "was": was,
            "would_be": would_be,
            "rank_was": rank_of(was).value,
            "rank_would_be": rank_of(would_be).value,
            "usable_was": self.before.ok,
            "usable_would_be": self.after.ok,
            "error": self.after.error,
            "explanation_was": self.before.explanation,
            "explanation_would_be": self.after.explanation,
        }


def summary(pairs: Iterable[Pair], labels: Mapping[str, bool]) -> dict[str, Any]:
    """Counts and means of both sides. `labels`: by finding id, whether a person called it a true positive."""
    found = list(pairs)
    sides = {
        "before": [(one, one.before, one.risks[0]) for one in found],
        "after": [(one, one.after, one.risks[1]) for one in found],
    }
    return {
        "questions": len(found),
        "rank_differs": sum(rank_of(one.risks[0]) is not rank_of(one.risks[1]) for one in found),
        "mean_difference": _mean([abs(one.risks[0] - one.risks[1]) for one in found]),
        **{
            name: {
                "usable": sum(exchange.ok for _, exchange, _ in side),
                "mean_risk_of_true_positives": _mean([risk for one, _, risk in side if labels.get(one.finding.finding_id) is True]),
                "mean_risk_of_false_positives": _mean([risk for one, _, risk in side if labels.get(one.finding.finding_id) is False]),
                "follow_ups": sum(len(exchange.follow_ups) for _, exchange, _ in side),
                "calls": sum(exchange.calls for _, exchange, _ in side),
                "tokens": sum(exchange.input_tokens + exchange.output_tokens for _, exchange, _ in side),
                "cost": round(sum(exchange.cost for _, exchange, _ in side), 6),
                "median_ms": round(statistics.median([exchange.latency_ms for _, exchange, _ in side])) if side else None,
            }
            for name, side in sides.items()
        },
    }


def _risk(finding: Finding, exchange: ModelExchange) -> float:
    return exchange.risk if exchange.ok and exchange.risk is not None else finding.base_risk


def _mean(values: list[float]) -> float | None:
    return round(statistics.fmean(values), 2) if values else None
