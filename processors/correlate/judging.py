"""From the facts of one service to the exposures that should stand for it. Pure: equal facts give equal exposures with equal ids."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from infra.core.errors import Poison
from processors.correlate.adjustments import adjust
from processors.correlate.contract import Judgement, Rule, ServiceFacts, printable
from schemas.events.findings import Exposure, ExposureEvent, Place
from schemas.ids import content_id, finding_id

EVIDENCE_LIMIT = 512
CONTENT = tuple(name for name in Exposure.model_fields if name not in ("event", "revision", "evidence_ids", "observed_at"))


def judge(rules: Iterable[Rule], facts: ServiceFacts, names: tuple[str, ...], evidence_ids: tuple[str, ...]) -> dict[str, Exposure]:
    """The exposures of one service by exposure id, without those that a stronger rule covers. Raises Poison when a rule fails."""
    fired = {rule.name: (rule, judgement) for rule in rules if (judgement := detected(rule, facts)) is not None}
    covered = {name for rule, _ in fired.values() for name in rule.covers}
    standing = (exposure(rule, judgement, facts, names, evidence_ids) for rule, judgement in fired.values() if rule.name not in covered)
    return {one.exposure_id: one for one in standing}


def detected(rule: Rule, facts: ServiceFacts) -> Judgement | None:
    """The rule's word. A rule may come from outside: whatever it raises makes the record bad, not the role."""
    try:
        return rule.detect(facts)
    except Exception as error:
        raise Poison(f"rule {rule.name} failed at {facts.place}: {type(error).__name__}: {error}") from error


def exposure(rule: Rule, judgement: Judgement, facts: ServiceFacts, names: tuple[str, ...], evidence_ids: tuple[str, ...]) -> Exposure:
    """One judgement as an event, not yet numbered: revision 0, opened."""
    service, record = facts.service, facts.inventory
    subject = judgement.subject or facts.place
    finding = finding_id(facts.zone, rule.name, subject)
    risk = adjust(rule.name, rule.source, judgement, facts)
    return Exposure(
        exposure_id=content_id("exposure", finding, facts.zone, facts.address, service.port, service.transport.value),
        finding_id=finding,
        event=ExposureEvent.OPENED,
        revision=0,
        rule=rule.name,
        subject=subject,
        title=judgement.title,
        why=judgement.why,
        action=judgement.action,
        place=Place(zone=facts.zone, address=facts.address, port=service.port, transport=service.transport, names=names),
        base_risk=risk.base,
        floor=risk.floor,
        ceiling=risk.ceiling,
        rules=risk.fired,
        cves=judgement.cves,
        owner=record.owner if record else "",
        criticality=record.criticality.value if record else "",
        tags=record.tags if record else (),
        evidence_ids=evidence_ids,
        evidence=printable(judgement.saw, EVIDENCE_LIMIT),
        observed_at=facts.now,
    )


def content(one: Exposure) -> tuple[object, ...]:
    """What an exposure says. Its number, its moment and the looks that it rests on are left out: they change without news."""
    return tuple(getattr(one, name) for name in CONTENT)


def edges(rules: Iterable[Rule], facts: ServiceFacts) -> tuple[datetime, ...]:
    """The moments at which some rule's word on these facts changes by itself. Raises Poison when a rule fails."""
    return tuple(moment for rule in rules for moment in edges_of(rule, facts))


def edges_of(rule: Rule, facts: ServiceFacts) -> tuple[datetime, ...]:
    """One rule's moments, in UTC. A date that can't be reckoned with (year 1, year 9999) makes the record bad, not the role."""
    try:
        return tuple(moment.astimezone(UTC) for moment in rule.edges(facts))
    except Exception as error:
        raise Poison(f"edges of rule {rule.name} failed at {facts.place}: {type(error).__name__}: {error}") from error
