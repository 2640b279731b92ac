"""Which exposures were there already at the first look at a port. Pure: asked of content alone, never of what arrived first.

The rules that fire now are asked again about what was seen then, at that moment. What they say of both was always there, for all we
know, unless a vulnerability in it was published since, or is known to be exploited (docs/adr/0015-baseline.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from processors.correlate.contract import Rule, ServiceFacts
from processors.correlate.judging import detected
from processors.correlate.memory import PlaceMemory
from processors.match.evidence import seen_in
from processors.match.matcher import telling
from processors.match.matching import Match, known, match
from schemas.events.base import Event
from schemas.events.findings import Exposure
from schemas.events.intel import IntelRecord
from schemas.events.observations import ServiceObservation


def marked(
    should: dict[str, Exposure], rules: Iterable[Rule], place: PlaceMemory, facts: ServiceFacts, intel: Mapping[str, Event]
) -> dict[str, Exposure]:
    """The exposures that should stand, those of the baseline marked so. Raises Poison when a rule fails."""
    if not should or place.first_at is None:
        return should
    fired = {one.rule for one in should.values()}
    then = replace(facts, now=place.first_at, flapping=False, new=False, impact=False)
    if place.first is not None:
        then = replace(then, service=place.first, matches=also(facts.matches, place.first))
    words = ((rule.name, detected(rule, then)) for rule in rules if rule.name in fired)
    stood = {(name, word.subject or then.place): word.cves for name, word in words if word is not None}
    return {
        key: one.model_copy(update={"baseline": True}) if stands(one, stood, place.first_at, intel) else one for key, one in should.items()
    }


def also(matches: Iterable[Match], first: ServiceObservation) -> tuple[Match, ...]:
    """Of the vulnerabilities that a service has now, the verdicts on what was seen first."""
    seen = seen_in(first)
    return telling(found for one in matches if (found := match(seen, known(one.record))) is not None)


def stands(one: Exposure, stood: Mapping[tuple[str, str], tuple[str, ...]], since: datetime, intel: Mapping[str, Event]) -> bool:
    """Whether an exposure was there already then, with all of its vulnerabilities. `stood`: those of then, by rule and subject."""
    before = stood.get((one.rule, one.subject))
    return before is not None and set(one.cves) <= set(before) and is_old(one.cves, since, intel)


def is_old(cves: Iterable[str], since: datetime, intel: Mapping[str, Event]) -> bool:
    """Whether none of the vulnerabilities is known to be exploited or was published later."""
    records = [record for record in map(intel.get, cves) if isinstance(record, IntelRecord)]
    return not any(one.kev or (one.published is not None and one.published > since) for one in records)
