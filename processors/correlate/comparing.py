"""What rules would have raised against what was raised: new, gone, moved, and precision by rule from what people said. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from processors.correlate.refolding import Raised


@dataclass(frozen=True, slots=True)
class Difference:
    """One finding that differs: '' where it was not raised, or would not be."""

    finding_id: str
    rule: str
    title: str
    kind: str
    was: str
    would_be: str


@dataclass(slots=True)
class RuleResult:
    """One rule's part. Labels are findings that somebody called true or false; precision is the share of true ones among them."""

    rule: str
    raised: int = 0
    would_raise: int = 0
    new: int = 0
    gone: int = 0
    moved: int = 0
    true_before: int = 0
    false_before: int = 0
    true_after: int = 0
    false_after: int = 0

    @property
    def precision_before(self) -> float | None:
        """Of what was raised. None without labels."""
        return _share(self.true_before, self.false_before)

    @property
    def precision_after(self) -> float | None:
        """Of what would be raised."""
        return _share(self.true_after, self.false_after)


def _share(right: int, wrong: int) -> float | None:
    return round(right / (right + wrong), 3) if right + wrong else None


@dataclass(slots=True)
class Comparison:
    """All differences, new ones first, then those gone, then those moved; and the table by rule."""

    differences: list[Difference] = field(default_factory=list)
    rules: list[RuleResult] = field(default_factory=list)

    def counted(self, kind: str) -> int:
        """How many differences are of a kind."""
        return sum(one.kind == kind for one in self.differences)

    def document(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "new": self.counted("new"),
            "gone": self.counted("gone"),
            "moved": self.counted("moved"),
            "rules": [
                asdict(one) | {"precision_before": one.precision_before, "precision_after": one.precision_after} for one in self.rules
            ],
            "differences": [asdict(one) for one in self.differences],
        }


def compare(
    was: Mapping[str, Raised], would_be: Mapping[str, Raised], labels: Mapping[str, bool], rank_of: Callable[[float], str]
) -> Comparison:
    """`labels`: by finding id, whether people said that it is so. Ranks are those of the rules' base risk: nobody's edit moves them."""
    found = Comparison()
    rules: dict[str, RuleResult] = {}
    for key in sorted(was.keys() | would_be.keys()):
        before, after = was.get(key), would_be.get(key)
        some = after or before
        if some is None:
            continue
        result = rules.setdefault(some.rule, RuleResult(some.rule))
        ranks = rank_of(before.base_risk) if before else "", rank_of(after.base_risk) if after else ""
        kind = "new" if before is None else "gone" if after is None else "moved" if ranks[0] != ranks[1] else ""
        _count(result, before is not None, after is not None, kind, labels.get(key))
        if kind:
            found.differences.append(Difference(key, some.rule, some.title, kind, *ranks))
    order = {"new": 0, "gone": 1, "moved": 2}
    found.differences.sort(key=lambda one: (order[one.kind], one.rule, one.title, one.finding_id))
    found.rules = [rules[name] for name in sorted(rules)]
    return found


def _count(result: RuleResult, before: bool, after: bool, kind: str, label: bool | None) -> None:
    result.raised += before
    result.would_raise += after
    result.new += kind == "new"
    result.gone += kind == "gone"
    result.moved += kind == "moved"
    if label is not None:
        result.true_before += before and label
        result.false_before += before and not label
        result.true_after += after and label
        result.false_after += after and not label
