"""Time comes from records alone: neither a worker whose clock jumps nor ticks that come all at once change what is found.

The three steps run one after the other over a month of looks, as the roles do: looks → changes → exposures → findings.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from consumers.assess.lifecycle import Assessor
from infra.core.ports import Context, FixedTables, MemoryState, Record, Step
from infra.core.settings import Settings
from infra.kafka.topics import TopicAdmin
from processors.correlate.correlating import Correlator
from processors.diff.differ import Differ
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.findings import Finding
from schemas.events.operations import Tick
from tests.golden.recorded_log import Unit, recorded_log
from tests.golden.test_engines import Oracle, engine, outputs, publish, publish_ticks, settings_for, state, wait_for
from tests.sightings import START

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
MONTH = timedelta(days=30)
ROUNDS = 120  # of looks in the month: one in six hours
Timed = tuple[datetime, str, Event]


class Chain:
    """Differ, correlator and assessor, each with its state, over one partition."""

    def __init__(self) -> None:
        codec, settings = Codec(), Settings()
        self._steps: tuple[Step, ...] = (Differ(settings.differ, codec), Correlator(), Assessor(settings))
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

    def _hand(self, stage: int, topic: str, event: Event) -> None:
        record = Record(topic, 0, 0, START, "", event)
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


def ticks(every: timedelta = timedelta(minutes=1)) -> Iterator[Timed]:
    """A month of ticks and two days more, so that what is due at its end happens in any case."""
    minute = START.replace(second=0, microsecond=0)
    while minute < START + MONTH + timedelta(days=2):
        yield minute, "ticks", Tick(partition=0, minute=minute)
        minute += every


def run(records: Iterable[Timed]) -> Chain:
    """Feed them in the order in which they are given."""
    chain = Chain()
    for _, topic, event in records:
        chain.feed(topic, event)
    return chain


def in_time(*logs: Iterable[Timed]) -> list[Timed]:
    """As it came: by time."""
    return sorted(itertools.chain(*logs), key=lambda one: one[0])


def behind(hours: float) -> list[Timed]:
    """Ticks run ahead of looks by so much, as where a worker that was away reads them first."""
    return sorted((*looks(), *ticks()), key=lambda one: one[0] - (timedelta(hours=hours) if one[1] == "ticks" else timedelta(0)))


@pytest.mark.slow
def test_a_month_of_ticks_at_once_gives_the_same_findings() -> None:
    """`ticks` are kept for a day, so that they can't run further ahead of looks that wait; if they could, it would show."""
    begun = time.monotonic()
    wanted = run(in_time(looks(), ticks()))
    took = time.monotonic() - begun
    assert len(wanted.findings) > 10
    assert wanted.told["changes"] > 200
    assert run([*looks(), *ticks()]).said() == wanted.said(), "ticks all at once, behind"
    assert run(behind(24)).said() == wanted.said(), "ticks a day ahead"
    assert run(behind(80)).said() != wanted.said(), "the control: ticks further ahead than a host may be silent"
    print(f"a month in {took:.1f} s: {dict(wanted.told)}, {len(wanted.findings)} findings")


@pytest.mark.kafka
@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not on this machine (Debian: libfaketime)")
@pytest.mark.parametrize("name", ["loop", "faust"])
def test_a_worker_whose_clock_jumps_gives_the_same_changes(kafka: str, tmp_path: Path, name: str) -> None:
    """The whole differ as a process: its wall clock goes an hour forth, two back and one forth again while it works."""
    units: list[Unit] = list(recorded_log(seed=22, subnets=4, rounds=40))
    oracle = Oracle()
    settings = settings_for(kafka, f"golden-time-{name}.", tmp_path / name)
    TopicAdmin(settings).apply()
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    shown = f"import time; print(time.time() - {time.time()})"
    log = settings.data_dir / "log"
    with engine(name, settings, more=faked) as process:
        for part, jump in enumerate(("+0", "+3600", "-3600", "+0")):
            clock.write_text(jump)
            said = subprocess.run([sys.executable, "-c", shown], env={**os.environ, **faked}, capture_output=True, text=True, check=True)
            assert abs(float(said.stdout) - float(jump)) < 300, "the clock did not jump"
            share = units[part * len(units) // 4 : (part + 1) * len(units) // 4]
            oracle.run(share)
            publish(settings, share)
            told = sum(one.topic == "changes" for one in oracle.emitted)
            wait_for(lambda told=told: outputs(settings, "changes").total() >= told, process, log)  # type: ignore[misc]
        publish_ticks(settings)
        oracle.tick()
        wait_for(lambda: state(settings) == oracle.state, process, log)
    assert outputs(settings, "changes") == oracle.outputs("changes")
    assert outputs(settings, "targets") == oracle.outputs("targets")
