"""The rollups on a real broker equal the same question asked of the raw records; a kill and an aborted transaction change nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import read_whole, transactional_producer, value_of
from infra.kafka.timestamps import recorded_at
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.operations import AgentState, AgentStatus, Rollup
from tests.processes import end

PARTITIONS = 3
Figures = dict[tuple[str, str, str, datetime], tuple[int, float]]


def run_rollups() -> None:
    """The role in a process of its own, until SIGTERM."""
    import threading

    from infra.core.settings import load_settings
    from processors.rollup import role

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    role.run(load_settings(), stop, lambda: print("ready", file=sys.stderr, flush=True))


@contextmanager
def rollups(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ,
        "DRIFTLINE_DATA_DIR": str(settings.data_dir),
        "DRIFTLINE_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": str(PARTITIONS),
    }
    code = "from tests.integration.test_rollups import run_rollups; run_rollups()"
    with (settings.data_dir / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=log, stdout=log, cwd=Path(__file__).parents[2])
        try:
            yield process
        finally:
            end(process)


def publish(settings: Settings, seed: int, now: datetime, aborted: bool = False) -> None:
    """One transaction with changes and heartbeats of the last minutes, some of them twice."""
    dice, codec = random.Random(seed), Codec()  # noqa: S311  repeatable, not secret
    producer = transactional_producer(settings, "writer")
    producer.begin_transaction()
    for number in range(120):
        change = AssetChange(
            change_id=f"{seed}-{number}",
            kind=dice.choice([ChangeKind.SERVICE_OPENED, ChangeKind.SERVICE_CLOSED, ChangeKind.HOST_UP]),
            zone=dice.choice(["default", "lab"]),
            address="198.18.0.7",
            subnet="198.18.0.0/24",
            revision=1,
            summary="",
            observed_at=now - timedelta(seconds=dice.choice([1, 30, 100, 200, 7200])),
        )
        for _ in range(dice.choice([1, 1, 2])):
            producer.produce(f"{settings.kafka.prefix}changes", codec.encode("changes", change), b"a", dice.randrange(PARTITIONS))
    for number in range(20):
        beat = AgentStatus(
            agent_id=f"agent-{number % 7}",
            zone="default",
            state=dice.choice([AgentState.IDLE, AgentState.STOPPED]),
            version="1",
            engine="syn",
            capabilities=(),
            started_at=now,
            at=now - timedelta(seconds=dice.choice([1, 70])),
        )
        producer.produce(f"{settings.kafka.prefix}agents", codec.encode("agents", beat), b"a", dice.randrange(PARTITIONS))
    if aborted:
        producer.flush()
        producer.abort_transaction()
    else:
        producer.commit_transaction()


def asked_of_the_rows(settings: Settings) -> Figures:
    """The same figures from the raw records, the way one would ask a database: group by, count distinct, sort and pick."""
    codec, first = Codec(), dict[str, tuple[AssetChange, float]]()
    beats: dict[tuple[str, datetime], set[str]] = defaultdict(set)

    def take(message: object) -> None:
        change = codec.decode("changes", value_of(message) or b"")  # type: ignore[arg-type]
        recorded = recorded_at(message)  # type: ignore[arg-type]
        assert isinstance(change, AssetChange)
        if (recorded - minute(change.observed_at)).total_seconds() < 3660:
            first.setdefault(change.change_id, (change, (recorded - change.observed_at).total_seconds()))

    def take_beat(message: object) -> None:
        beat = codec.decode("agents", value_of(message) or b"")  # type: ignore[arg-type]
        assert isinstance(beat, AgentStatus)
        if beat.state is not AgentState.STOPPED:
            beats[beat.zone, minute(beat.at)].add(beat.agent_id)

    read_whole(settings, "changes", take)
    read_whole(settings, "agents", take_beat)
    found: Figures = {("agents_alive", zone, "alive", start): (len(names), float(len(names))) for (zone, start), names in beats.items()}
    delays: dict[tuple[str, datetime], list[float]] = defaultdict(list)
    counts: dict[tuple[str, str, datetime], int] = defaultdict(int)
    for change, delay in first.values():
        delays[change.zone, minute(change.observed_at)].append(delay)
        counts[change.zone, change.kind.value, minute(change.observed_at)] += 1
    found |= {("changes", zone, kind, start): (count, float(count)) for (zone, kind, start), count in counts.items()}
    for (zone, start), seconds in delays.items():
        for name, level in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            found["change_delay", zone, name, start] = (len(seconds), round(sorted(seconds)[int(level * len(seconds))], 3))
    return found


def minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def published(settings: Settings) -> Figures:
    """The last rollup of each figure."""
    codec, found = Codec(), Figures()

    def take(message: object) -> None:
        one = codec.decode("rollups", value_of(message) or b"")  # type: ignore[arg-type]
        assert isinstance(one, Rollup)
        found[one.name, one.zone, one.kind, one.window_start] = (one.count, one.value)

    read_whole(settings, "rollups", take)
    return found


def without_delays(figures: Figures) -> Figures:
    """Of a change that was published twice either copy may be read first, so its delay may be either's; its count is one."""
    return {key: (count, 0.0 if key[0] == "change_delay" else value) for key, (count, value) in figures.items()}


def wait_until_equal(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while without_delays(published(settings)) != without_delays(asked_of_the_rows(settings)):
        assert process.poll() is None, (settings.data_dir / "log").read_text()[-3000:]
        assert time.monotonic() < deadline, "the figures differ: " + repr(
            set(without_delays(published(settings)).items()) ^ set(without_delays(asked_of_the_rows(settings)).items())
        )
        time.sleep(0.3)


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.slow
def test_rollups_equal_the_raw_records_through_kill_and_abort(kafka: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix="rollups.", partitions=PARTITIONS))
    TopicAdmin(settings).apply()
    now = datetime.now().astimezone().replace(microsecond=0)
    publish(settings, 1, now)
    publish(settings, 2, now, aborted=True)
    with rollups(settings) as process:
        wait_until_equal(settings, process)
        publish(settings, 3, now)
        publish(settings, 4, now, aborted=True)
        wait_until_equal(settings, process)
        process.kill()
    publish(settings, 5, now)
    with rollups(settings) as process:
        wait_until_equal(settings, process)
    counted = sum(count for (name, *_), (count, _) in published(settings).items() if name == "changes")
    assert 200 < counted < 360
    exact, told = asked_of_the_rows(settings), published(settings)
    assert all(abs(told[key][1] - exact[key][1]) < 1 for key in exact)
