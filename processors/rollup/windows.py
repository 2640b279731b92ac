"""Windows over time, as pure functions: which samples a record gives, and what a window of them adds up to.

Tumbling windows of 60 s by event time. A sample has an id; the same id in the same window counts once, so that reading a record
twice changes nothing. What was recorded more than an hour after its window ended is left out: the figure stands by then.
Figures (all can be asked of ClickHouse too, over the raw rows):
  changes           changes a minute, by zone and kind                          value = count
  agents_alive      agents that sent a heartbeat and had not stopped, by zone    value = count
  change_delay      seconds from seen to recorded, by zone; kinds p50, p90, p99  count = changes
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from schemas.events.assets import AssetChange
from schemas.events.base import Event
from schemas.events.operations import AgentState, AgentStatus, Rollup

WINDOW = timedelta(seconds=60)
GRACE = timedelta(hours=1)
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one record adds to one window. `kind` is a change's kind, or `alive`."""

    zone: str
    kind: str
    window_start: datetime
    sample_id: str
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """A window of one zone and one source of samples (`changes` or `agents`)."""

    source: str
    zone: str
    window_start: datetime


def window_of(moment: datetime) -> datetime:
    """The start of the window that a moment lies in."""
    return moment - (moment - EPOCH) % WINDOW


def sample_of(event: Event, recorded_at: datetime) -> tuple[Slot, Sample] | None:
    """What a record of `changes` or `agents` adds; None if nothing."""
    match event:
        case AssetChange() if not late(window_of(event.observed_at), recorded_at):
            start = window_of(event.observed_at)
            delay = (recorded_at - event.observed_at) // timedelta(milliseconds=1)
            return Slot("changes", event.zone, start), Sample(event.zone, event.kind.value, start, event.change_id, delay)
        case AgentStatus() if event.state is not AgentState.STOPPED and not late(window_of(event.at), recorded_at):
            start = window_of(event.at)
            return Slot("agents", event.zone, start), Sample(event.zone, "alive", start, event.agent_id)
    return None


def late(window_start: datetime, moment: datetime) -> bool:
    """Whether by this moment a window is closed for good."""
    return window_start + WINDOW + GRACE <= moment


def quantile(values: Iterable[int], level: float) -> int:
    """The exact quantile as ClickHouse's quantileExact takes it: the element at floor(level × n) of the sorted values."""
    ordered = sorted(values)
    return ordered[min(int(level * len(ordered)), len(ordered) - 1)]


def figures(slot: Slot, samples: Iterable[Sample]) -> tuple[Rollup, ...]:
    """What the samples of one window add up to."""
    known = list(samples)
    if slot.source == "agents":
        return (_rollup("agents_alive", slot, "alive", len(known), float(len(known))),)
    kinds = sorted({one.kind for one in known})
    counts = {kind: sum(one.kind == kind for one in known) for kind in kinds}
    changes = tuple(_rollup("changes", slot, kind, count, float(count)) for kind, count in counts.items())
    delays = [one.delay_ms for one in known]
    return changes + tuple(
        _rollup("change_delay", slot, name, len(delays), quantile(delays, level) / 1000) for name, level in PERCENTILES.items()
    )


def _rollup(name: str, slot: Slot, kind: str, count: int, value: float) -> Rollup:
    seconds = int(WINDOW.total_seconds())
    return Rollup(name=name, zone=slot.zone, kind=kind, window_start=slot.window_start, window_seconds=seconds, count=count, value=value)


def rollup_key(rollup: Rollup) -> str:
    """The key of a rollup: `name|zone|kind`."""
    return f"{rollup.name}|{rollup.zone}|{rollup.kind}"


@dataclass(slots=True)
class Windows:
    """The windows that may still grow."""

    open: dict[Slot, dict[str, Sample]] = field(default_factory=dict)
    dirty: set[Slot] = field(default_factory=set)

    def add(self, slot: Slot, sample: Sample) -> bool:
        """Take in a sample; whether it was new. The first of an id counts."""
        known = self.open.setdefault(slot, {})
        if sample.sample_id in known:
            return False
        known[sample.sample_id] = sample
        self.dirty.add(slot)
        return True

    def news(self) -> Iterator[Rollup]:
        """The figures of every window that grew since the last call. The last of a (name, zone, kind, window) is the right one."""
        for slot in sorted(self.dirty, key=lambda one: (one.window_start, one.source, one.zone)):
            yield from figures(slot, self.open[slot].values())
        self.dirty.clear()

    def oldest(self) -> datetime | None:
        """The start of the oldest window."""
        return min((slot.window_start for slot in self.open), default=None)

    def close(self, moment: datetime) -> list[tuple[Slot, Sample]]:
        """Take out the windows that are closed for good by this moment (Kafka's time, which no agent's wrong clock pushes ahead)."""
        done = [slot for slot in self.open if late(slot.window_start, moment) and slot not in self.dirty]
        return [(slot, sample) for slot in done for sample in self.open.pop(slot).values()]
