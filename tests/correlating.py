"""A correlator that a test feeds by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from infra.core.ports import Context, FixedTables, MemoryState, Record
from processors.correlate.correlating import Correlator
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.base import Event
from schemas.events.findings import Exposure
from schemas.events.observations import ServiceObservation
from schemas.events.operations import Tick

START = datetime(2026, 3, 1, tzinfo=UTC)


class Bench:
    """A correlator with one partition's state and tables, fed by hand."""

    def __init__(self, step: Correlator | None = None) -> None:
        self.step, self.state = step or Correlator(), MemoryState()
        self.tables: dict[str, dict[str, Event]] = {"inventory": {}, "intel": {}}
        self.revision = 0

    def feed(self, topic: str, event: Event | None, key: str = "", at: datetime = START) -> list[Exposure]:
        if topic in self.tables:
            self.tables[topic].pop(key, None)
            if event is not None:
                self.tables[topic][key] = event
        context = Context(0, 1, self.state, FixedTables(self.tables))
        emits = list(self.step.handle(Record(topic, 0, 0, at, key, event), context))
        found = [one.event for one in emits]
        assert all(isinstance(one, Exposure) for one in found)
        assert all(emit.topic == "exposures" and emit.key == emit.route for emit in emits)
        return [one for one in found if isinstance(one, Exposure)]

    def change(self, kind: ChangeKind, seen: ServiceObservation | None = None, after: float = 0, **over: Any) -> list[Exposure]:
        """One change, `after` seconds from the start."""
        return self.feed("changes", self.made(kind, seen, after, **over))

    def made(self, kind: ChangeKind, seen: ServiceObservation | None = None, after: float = 0, **over: Any) -> AssetChange:
        self.revision += 1
        gone = kind is ChangeKind.SERVICE_CLOSED
        values: dict[str, Any] = {
            "change_id": f"c{self.revision}",
            "kind": kind,
            "zone": "default",
            "address": "198.18.0.7",
            "subnet": "198.18.0.0/24",
            "revision": self.revision,
            "port": seen.port if seen else 0,
            "before": seen if gone else None,
            "after": None if gone else seen,
            "summary": "…",
            "evidence_ids": ("u1",),
            "observed_at": START + timedelta(seconds=after),
            **over,
        }
        return AssetChange(**values)

    def tick(self, at: datetime) -> list[Exposure]:
        return self.feed("ticks", Tick(partition=0, minute=at))


def told(exposures: list[Exposure]) -> set[tuple[str, str]]:
    return {(one.rule, one.event.value) for one in exposures}
