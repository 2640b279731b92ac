"""Time comes from records alone: ticks that come all at once change nothing of what is found.

The three steps run one after the other over a month of looks, as the roles do: looks → changes → exposures → findings.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import pytest

from consumers.assess.lifecycle import Assessor
from infra.core.ports import Context, FixedTables, MemoryState, Record, Step
from infra.core.settings import Settings
from processors.correlate.correlating import Correlator
from processors.diff.differ import Differ
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.findings import Finding
from schemas.events.operations import Tick
from schemas.plain import Plain
from tests.golden.recorded_log import recorded_log
from tests.sightings import START

MONTH = timedelta(days=30)
ROUNDS = 120  # of looks in the month: one in six hours
Timed = tuple[datetime, str, Event]


class Chain:
    """Differ, correlator and assessor, each with its state, over one partition."""

    def __init__(self) -> None:
        settings = Settings()
        self._codec = Codec()
        self._steps: tuple[Step, ...] = (Differ(settings.differ, self._codec), Correlator(), Assessor(settings))
        self._contexts = [Context(0, 1, MemoryState(), FixedTables()) for _ in self._steps]
        self.findings: dict[str, Finding] = {}
        self.told: Counter[str] = Counter()

    def feed(self, topic: str, event: Event) -> None:
        """One record, and all that comes of it."""
        if topic == "ticks":
            for stage in range(3):
                self._hand(stage, topic, event)
        else:
            self._hand(0, topic, event)

    def _hand(self, stage: int, topic: str, event: Event | Plain) -> None:
        raw = self._codec.encode(topic, event)
        plain, read = (self._codec.read(topic, raw), None) if stage == 0 else (None, self._codec.decode(topic, raw))
        record = Record(topic, 0, 0, START, "", read, raw, plain)
        for one in list(self._steps[stage].handle(record, self._contexts[stage])):
            if one.topic in ("changes", "exposures") and one.event is not None:
                self.told[one.topic] += 1
                self._hand(stage + 1, one.topic, one.event)
            elif one.topic == "findings" and isinstance(one.event, Finding):
                self.findings[one.key] = one.event

    def said(self) -> dict[str, tuple[object, ...]]:
        """What every finding says at the end, its times included."""
        return {
            key: (one.status, one.rule, one.base_risk, one.rank, one.places, one.first_seen, one.revision)
            for key, one in self.findings.items()
        }


def looks() -> Iterator[Timed]:
    """A month of looks: the recorded log, its rounds three hours apart."""
    for number, unit in enumerate(recorded_log(seed=21, subnets=1, rounds=ROUNDS)):
        late = number * (MONTH / ROUNDS - timedelta(minutes=2))
        for event in unit.events:
            yield moved(event, late)


def moved(event: Event, late: timedelta) -> Timed:
    """The same look, later."""
    times = {name: getattr(event, name) + late for name in ("observed_at", "started_at", "finished_at") if hasattr(event, name)}
    return max(times.values()), "probes", event.model_copy(update=times)


def ticks(every: timedelta) -> Iterator[Timed]:
    """All ticks of each such hour, for a month and two days more, so that what is due at its end happens in any case."""
    hour = START.replace(minute=0, second=0, microsecond=0)
    while hour < START + MONTH + timedelta(days=2):
        for minute in (hour + timedelta(minutes=number) for number in range(60)):
            yield minute, "ticks", Tick(partition=0, minute=minute)
        hour += every


def run(records: Iterable[Timed]) -> Chain:
    """Feed them in the order in which they are given."""
    chain = Chain()
    for _, topic, event in records:
        chain.feed(topic, event)
    return chain


def in_time(*logs: Iterable[Timed]) -> list[Timed]:
    """As it came: by time."""
    return sorted(itertools.chain(*logs), key=lambda one: one[0])


def ahead(hours: float, every: timedelta) -> list[Timed]:
    """Ticks run ahead of looks by so much, as where a worker that was away reads them first."""
    return sorted((*looks(), *ticks(every)), key=lambda one: one[0] - (timedelta(hours=hours) if one[1] == "ticks" else timedelta(0)))


@pytest.mark.long
@pytest.mark.parametrize("hours", [12, 1])
def test_a_month_of_ticks_at_once_gives_the_same_findings(hours: int) -> None:
    """Behind the looks they may be as late as they like; ahead of looks that wait, an hour (the differ's grace). More than that shows."""
    begun, every = time.monotonic(), timedelta(hours=hours)
    wanted = run(in_time(looks(), ticks(every)))
    took = time.monotonic() - begun
    assert len(wanted.findings) > 10
    assert wanted.told["changes"] > 200
    assert run([*looks(), *ticks(every)]).said() == wanted.said(), "ticks all at once, behind"
    assert run(ahead(0.9, every)).said() == wanted.said(), "ticks nearly an hour ahead"
    assert run(ahead(80, every)).said() != wanted.said(), "the control: ticks further ahead than a host may be silent"
    print(f"a month in {took:.1f} s: {dict(wanted.told)}, {len(wanted.findings)} findings")
