"""Divides long lists of targets into requests that the planner takes whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from schemas.targeting import Span, parse_target

MOST_TARGETS = 10_000


def weigh(target: str) -> int:
    """How many addresses a target names; a name counts as one. Raises ValueError for what is no target."""
    parsed = parse_target(target)
    return parsed.size if isinstance(parsed, Span) else 1


def split(targets: Iterable[str], most_addresses: int) -> Iterator[tuple[str, ...]]:
    """The targets in order, in groups of at most 10,000 that together name at most `most_addresses`, larger single ones by themselves."""
    group: list[str] = []
    total = 0
    for target in targets:
        try:
            weight = weigh(target)
        except ValueError:
            weight = 0  # the planner refuses it, with the reason
        if group and (len(group) == MOST_TARGETS or total + weight > most_addresses):
            yield tuple(group)
            group, total = [], 0
        group.append(target)
        total += weight
    if group:
        yield tuple(group)
