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
from schemas.events.base import Event
from schemas.events.findings import Exposure
from schemas.events.intel import IntelRecord


def marked(
    should: dict[str, Exposure], rules: Iterable[Rule], place: PlaceMemory, facts: ServiceFacts, intel: Mapping[str, Event]
) -> dict[str, Exposure]:
    """The exposures that should stand, those of the baseline marked so. Raises Poison when a rule fails."""
    if not should or place.first_at is None:
        return should
    fired = {one.rule for one in should.values()}
    then = replace(facts, service=place.first or facts.service, now=place.first_at, flapping=False, new=False, impact=False)
    words = ((rule.name, detected(rule, then)) for rule in rules if rule.name in fired)
    stood = {(name, word.subject or then.place) for name, word in words if word is not None}
    return {
        key: one.model_copy(update={"baseline": True})
        if (one.rule, one.subject) in stood and is_old(one.cves, place.first_at, intel)
        else one
        for key, one in should.items()
    }


def is_old(cves: Iterable[str], since: datetime, intel: Mapping[str, Event]) -> bool:
    """Whether none of the vulnerabilities is known to be exploited or was published later."""
    records = [record for record in map(intel.get, cves) if isinstance(record, IntelRecord)]
    return not any(one.kev or (one.published is not None and one.published > since) for one in records)
