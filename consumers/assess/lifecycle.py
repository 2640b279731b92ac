"""The assessor's step: exposures, decisions, the model's exchanges and ticks in; revisions of findings out.

A finding is open while an exposure of it stands anywhere, and speaks with the words of its worst place. Every revision that is told differs
from the one before in what it says; time enters through records alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from consumers.assess.deciding import decide, decide_anew, expire, expiries, in_force, status_of
from consumers.assess.memory import (
    FindingMemory,
    PlaceEntry,
    due_findings,
    due_key,
    exposure_key,
    load,
    load_exposure,
    save,
)
from consumers.assess.prompting import content_hash
from consumers.assess.ranking import bounded, by_model, rank_of, rationale
from infra.core.errors import Poison
from infra.core.ports import Context, Emit, Record
from infra.core.settings import Settings
from schemas.events.findings import (
    Decision,
    Exposure,
    ExposureEvent,
    Finding,
    FindingStatus,
    ModelExchange,
    Place,
    Rank,
    Review,
    ReviewStatus,
)
from schemas.events.operations import Tick

PLACES_SHOWN = 200
"""A finding names so many places and counts the others; all of them are in the table of exposures."""


class Assessor:
    """The step of the role `assessor`."""

    def __init__(self, settings: Settings) -> None:
        self._keep = timedelta(days=settings.assessor.resolved_days)
        self._reviewing = bool(settings.model.name)

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The revisions that one record leads to."""
        event = record.event
        if record.topic == "decisions":
            return self._decision(record, context)
        if isinstance(event, Exposure):
            return self._exposure(event, context)
        if isinstance(event, ModelExchange):
            return self._exchange(event, context)
        if isinstance(event, Tick):
            return self._tick(event.minute, context)
        raise Poison(f"the assessor can do nothing with {type(event).__name__} from {record.topic}")

    def _exposure(self, exposure: Exposure, context: Context) -> Iterator[Emit]:
        memory = load(context.state, exposure.finding_id) or FindingMemory(finding_id=exposure.finding_id, now=exposure.observed_at)
        before = memory.places.get(exposure.exposure_id)
        if before is not None and before.revision >= exposure.revision:
            return
        yield from self._settle(memory, exposure.observed_at, context)
        standing = exposure.event is not ExposureEvent.RESOLVED
        key = exposure_key(exposure.finding_id, exposure.exposure_id)
        if standing:
            context.state.put(key, exposure.model_dump_json().encode())
        else:
            context.state.delete(key)
        place = exposure.place
        where = f"{place.zone}|{place.address}|{place.port:05}|{place.transport.value}"
        base = exposure.base_risk if standing else None
        memory.keep_place(exposure.exposure_id, PlaceEntry(exposure.revision, base, where, exposure.baseline))
        if standing:
            memory.first_seen = min(memory.first_seen or exposure.observed_at, exposure.observed_at)
        if memory.told is None:
            decide_anew(memory, context.tables.table("decisions"))
        yield from self._tell(memory, exposure.observed_at, context)
        save(context.state, memory)

    def _decision(self, record: Record, context: Context) -> Iterator[Emit]:
        """Every partition gets every decision; the one that has the finding acts."""
        decision = record.event
        memory = load(context.state, decision.finding_id if isinstance(decision, Decision) else record.key.partition("|")[0])
        if memory is None or memory.told is None:
            return
        yield from self._settle(memory, record.recorded_at, context)
        if isinstance(decision, Decision):
            decide(memory, decision)
        else:
            decide_anew(memory, context.tables.table("decisions"))
        yield from self._tell(memory, record.recorded_at, context)
        save(context.state, memory)

    def _exchange(self, exchange: ModelExchange, context: Context) -> Iterator[Emit]:
        """The model's answer, if it is the one that is waited for."""
        memory = load(context.state, exchange.finding_id)
        if memory is None or memory.review.status is not ReviewStatus.PENDING or memory.review.content_hash != exchange.content_hash:
            return
        yield from self._settle(memory, exchange.asked_at, context)
        good = exchange.ok and exchange.risk is not None
        memory.model_risk = exchange.risk if good else None
        memory.review = Review(
            status=ReviewStatus.DONE if good else ReviewStatus.FAILED,
            content_hash=exchange.content_hash,
            model=exchange.model,
            prompt_hash=exchange.prompt_hash,
            explanation=exchange.explanation if good else "",
            action=exchange.action if good else "",
            evidence_ids=exchange.evidence_ids if good else (),
            note="" if good else f"No review: {exchange.error or 'no risk in the answer'}. The finding stands as the rules wrote it.",
        )
        yield from self._tell(memory, exchange.asked_at, context)
        save(context.state, memory)

    def _tick(self, minute: datetime, context: Context) -> Iterator[Emit]:
        for entry, finding in list(due_findings(context.state, minute)):
            context.state.delete(entry)
            memory = load(context.state, finding)
            if memory is not None:
                yield from self._settle(memory, minute, context)
                save(context.state, memory)

    def _settle(self, memory: FindingMemory, moment: datetime, context: Context) -> Iterator[Emit]:
        """Do what was due before this moment, at the moment it was due."""
        while memory.due is not None and memory.due <= moment:
            yield from self._tell(memory, memory.due, context)

    def _tell(self, memory: FindingMemory, moment: datetime, context: Context) -> Iterator[Emit]:
        """The next revision as of a moment, if it says anything new; the tombstone when a resolved finding's time is over."""
        memory.now = max(memory.now, moment)
        expire(memory)
        if memory.resolved_at is not None and memory.worst() is None and memory.resolved_at + self._keep <= memory.now:
            self._forget(memory, context)
            yield Emit("findings", memory.finding_id, None, route=memory.finding_id)
            return
        finding = self._compose(memory, context)
        if finding is not None and (memory.told is None or says(finding) != says(memory.told)):
            memory.revision += 1
            memory.told = finding.model_copy(update={"revision": memory.revision})
            yield Emit("findings", memory.finding_id, memory.told, route=memory.finding_id)
        moments = [*expiries(memory), *([memory.resolved_at + self._keep] if memory.resolved_at else [])]
        self._look_again(memory, min((one for one in moments if one > memory.now), default=None), context)

    def _compose(self, memory: FindingMemory, context: Context) -> Finding | None:
        """The finding that memory adds up to now. None if nothing ever stood."""
        status, key, told = status_of(memory), memory.worst(), memory.told
        if key is None:
            if told is None:
                return None
            memory.resolved_at = memory.resolved_at or memory.now
            latest = {"review": memory.review, "resolved_at": memory.resolved_at, "status": status, "changed_at": memory.now}
            return told.model_copy(update={**latest, **words(memory)})
        worst = load_exposure(context.state, memory.finding_id, key)
        if memory.resolved_at is not None:
            memory.resolved_at, memory.reopened = None, memory.reopened + 1
        open_places = memory.open_places()
        shown = (load_exposure(context.state, memory.finding_id, one).place for one in open_places[:PLACES_SHOWN])
        draft = draft_of(memory, worst, tuple(shown), status)
        memory.review = self._review(memory, draft)
        risk, moved = final_risk(memory, worst)
        return draft.model_copy(
            update={
                "risk": risk,
                "rank": rank_of(risk),
                "rationale": rationale(worst, len(open_places), moved),
                "review": memory.review,
            }
        )

    def _review(self, memory: FindingMemory, draft: Finding) -> Review:
        """Where the review stands: what was asked or answered counts while the question is the same."""
        asked = content_hash(draft)
        if memory.review.content_hash == asked and memory.review.status is not ReviewStatus.NONE:
            return memory.review
        memory.model_risk = None
        if self._reviewing and draft.status is FindingStatus.OPEN and rank_of(draft.base_risk) is not Rank.INFO:
            return Review(status=ReviewStatus.PENDING, content_hash=asked)
        return Review()

    def _look_again(self, memory: FindingMemory, due: datetime | None, context: Context) -> None:
        if due == memory.due:
            return
        if memory.due is not None:
            context.state.delete(due_key(memory.due, memory.finding_id))
        if due is not None:
            context.state.put(due_key(due, memory.finding_id), b"1")
        memory.due = due

    def _forget(self, memory: FindingMemory, context: Context) -> None:
        """Keep nothing of a finding but its number."""
        self._look_again(memory, None, context)
        blank = FindingMemory(finding_id=memory.finding_id, now=memory.now)
        for name in FindingMemory.model_fields:
            if name not in ("finding_id", "now", "revision"):
                setattr(memory, name, getattr(blank, name))


def draft_of(memory: FindingMemory, worst: Exposure, places: tuple[Place, ...], status: FindingStatus) -> Finding:
    """The finding at its base risk, as the rules wrote it."""
    return Finding(
        finding_id=memory.finding_id,
        revision=memory.revision,
        status=status,
        zone=worst.place.zone,
        rule=worst.rule,
        subject=worst.subject,
        title=worst.title,
        why=worst.why,
        action=worst.action,
        places=places,
        base_risk=worst.base_risk,
        floor=worst.floor,
        ceiling=worst.ceiling,
        risk=worst.base_risk,
        rank=rank_of(worst.base_risk),
        rationale="",
        rules=worst.rules,
        cves=worst.cves,
        owner=worst.owner,
        criticality=worst.criticality,
        tags=worst.tags,
        evidence_ids=worst.evidence_ids,
        reopened=memory.reopened,
        first_seen=memory.first_seen or memory.now,
        changed_at=memory.now,
        baseline=memory.is_baseline(),
        **words(memory),
    )


def words(memory: FindingMemory) -> dict[str, Any]:
    """What people said of a finding, as its event has it."""
    assignee = memory.assignment.assignee if memory.assignment else ""
    return {"decision": in_force(memory), "assignee": assignee, "comment": memory.comment}


def final_risk(memory: FindingMemory, worst: Exposure) -> tuple[float, str]:
    """The risk after the model and a person, within the rules' bounds, and who moved it, in words. A person's word beats the model's."""
    if memory.edit is not None and memory.edit.risk is not None:
        risk = bounded(memory.edit.risk, worst.floor, worst.ceiling)
        return risk, f"{memory.edit.decided_by} set the risk to {risk:g}."
    if memory.model_risk is not None and memory.review.status is ReviewStatus.DONE:
        risk = by_model(memory.model_risk, worst.base_risk, worst.floor, worst.ceiling)
        if risk != worst.base_risk:
            return risk, f"The model {memory.review.model} moved the risk to {risk:g}."
    return worst.base_risk, ""


def says(finding: Finding) -> Finding:
    """What a finding says, without its number and its moment."""
    return finding.model_copy(update={"revision": 0, "changed_at": finding.first_seen})
