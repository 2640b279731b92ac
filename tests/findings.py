"""Exposures and findings for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from infra.core.model_settings import ModelSettings
from infra.core.ports import Context, FixedTables, MemoryState, Record
from infra.core.settings import Settings
from schemas.events.base import Event
from schemas.events.findings import Decision, DecisionKind, Exposure, ExposureEvent, Finding, FiredRule, ModelExchange, Place
from schemas.events.operations import Tick
from schemas.ids import content_id, finding_id

START = datetime(2026, 3, 1, tzinfo=UTC)
SUBJECT = "198.18.0.7:tcp/6379"
FINDING = finding_id("default", "redis-without-password", SUBJECT)


def exposure(
    event: ExposureEvent = ExposureEvent.OPENED, revision: int = 1, address: str = "198.18.0.7", after: float = 0, **over: Any
) -> Exposure:
    """One place of the finding `FINDING`."""
    base = over.get("base_risk", 50.0)
    values: dict[str, Any] = {
        "exposure_id": content_id("exposure", FINDING, "default", address, 6379, "tcp"),
        "finding_id": FINDING,
        "event": event,
        "revision": revision,
        "rule": "redis-without-password",
        "subject": SUBJECT,
        "title": "Redis answers without a password",
        "why": "Anyone can read it.",
        "action": "Set a password.",
        "place": Place(zone="default", address=address, port=6379),
        "base_risk": base,
        "floor": 30.0,
        "ceiling": 95.0,
        "rules": (FiredRule(rule="redis-without-password", effect=f"base {base:g}", input="redis.auth=none", source="CWE-306"),),
        "evidence_ids": ("u1", "u2"),
        "observed_at": START + timedelta(seconds=after),
        **over,
    }
    return Exposure(**values)


def decision(kind: DecisionKind, number: int = 1, after: float = 0, **over: Any) -> Decision:
    """A person's word on `FINDING`."""
    at = START + timedelta(seconds=after)
    return Decision(decision_id=f"d{number}", finding_id=FINDING, kind=kind, decided_by="ana", decided_at=at, **over)


def answered(finding: Finding, after: float = 0, **over: Any) -> ModelExchange:
    """A good exchange about a finding, unless `over` says otherwise."""
    values: dict[str, Any] = {
        "content_hash": finding.review.content_hash,
        "finding_id": finding.finding_id,
        "model": "openai:m",
        "prompt_hash": "p",
        "asked": "…",
        "ok": True,
        "risk": 60.0,
        "explanation": "Because.",
        "asked_at": START + timedelta(seconds=after),
        **over,
    }
    return ModelExchange(**values)


class AssessorBench:
    """An assessor with one partition's state and the decisions, fed by hand."""

    def __init__(self, model: bool = False) -> None:
        # Imported here so that other tests may use the builders above alone.
        from consumers.assess.lifecycle import Assessor

        self.step = Assessor(Settings(model=ModelSettings(name="openai:m" if model else None)))
        self.state, self.decisions = MemoryState(), dict[str, Event]()
        self.told: list[Finding | None] = []

    def feed(self, topic: str, event: Event | None, key: str = "", at: datetime = START) -> list[Finding | None]:
        """What one record leads to."""
        if topic == "decisions":
            self.decisions.pop(key, None)
            if event is not None:
                self.decisions[key] = event
        context = Context(0, 1, self.state, FixedTables({"decisions": self.decisions}))
        emits = list(self.step.handle(Record(topic, 0, 0, at, key, event), context))
        assert all(one.topic == "findings" and one.key == one.route for one in emits)
        found = [one.event for one in emits]
        told = [one for one in found if one is None or isinstance(one, Finding)]
        assert len(told) == len(found)
        self.told += told
        return told

    def one(self, topic: str, event: Event | None, key: str = "", at: datetime = START) -> Finding:
        """The only revision that one record leads to."""
        (found,) = self.feed(topic, event, key, at)
        assert found is not None
        return found

    def decide(self, word: Decision) -> list[Finding | None]:
        """A decision arrives when it was made."""
        return self.feed("decisions", word, word.finding_id, word.decided_at)

    def tick(self, at: datetime) -> list[Finding | None]:
        """A minute passes."""
        return self.feed("ticks", Tick(partition=0, minute=at))
