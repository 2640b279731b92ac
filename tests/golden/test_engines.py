"""One recorded log gives identical changes, requests and state on both engines: the transactional loop and Faust, on a real broker.

The log goes in as scanners write it: each unit in one transaction, some of them aborted, and one record that is no event at all. The
fold itself, run in memory over the committed units, is the third witness.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.core.ports import Context, Emit, FixedTables, MemoryState, Record
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, read_whole, transactional_producer, value_of
from infra.kafka.topics import TopicAdmin
from processors.diff.differ import Differ
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.operations import Tick
from schemas.ids import partition_of, subnet_key
from schemas.plain import Plain
from tests.golden.recorded_log import Unit, recorded_log
from tests.processes import end
from tests.sightings import START, at

PARTITIONS = 3
TICKED = [at(hour * 3600 + minute * 60) for hour in (30, 31, 100, 200) for minute in range(60)]
LOOP = "import sys; from tests.golden.test_engines import run_loop; run_loop()"
ENGINES = {"loop": ["-c", LOOP], "faust": ["-m", "processors.faust_app"]}
Records = list[tuple[int, bytes, bytes | None]]


def run_loop() -> None:
    """The step that is named, on the transactional loop, in a process of its own, until SIGTERM."""
    import threading

    from infra.core.settings import load_settings
    from processors.correlate import role as correlate
    from processors.diff import role as diff

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run = {"differ": diff.run, "correlator": correlate.run}[sys.argv[1]]
    run(load_settings(), stop, lambda: print("ready", file=sys.stderr, flush=True))


def settings_for(kafka: str, prefix: str, folder: Path) -> Settings:
    return Settings(data_dir=folder, kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=PARTITIONS))


@contextmanager
def engine(name: str, settings: Settings, role: str = "differ") -> Iterator[subprocess.Popen[bytes]]:
    """A step on one engine; ended with SIGTERM."""
    env = {
        **os.environ,
        "DRIFTLINE_DATA_DIR": str(settings.data_dir),
        "DRIFTLINE_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": str(PARTITIONS),
    }
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (settings.data_dir / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *ENGINES[name], role], env=env, stderr=log, stdout=log, cwd=Path(__file__).parents[2])
        try:
            yield process
        finally:
            end(process)


def publish(settings: Settings, units: list[Unit]) -> None:
    """Write units as a scanner does: one transaction each. In the middle, a record that is no event."""
    codec, producer = Codec(), transactional_producer(settings, "scanner")
    topic = f"{settings.kafka.prefix}probes"
    for number, unit in enumerate(units):
        key = subnet_key("default", unit.subnet)
        partition = partition_of(key, PARTITIONS)
        producer.begin_transaction()
        for event in unit.events:
            producer.produce(topic, codec.encode("probes", event), key.encode(), partition)
        if number == len(units) // 2:
            producer.produce(topic, b"no event", key.encode(), partition)
        if unit.aborted:
            producer.flush()  # let the broker have them: what it must not show is there
            producer.abort_transaction()
        else:
            producer.commit_transaction()


def publish_ticks(settings: Settings) -> None:
    publisher = Publisher(settings, Codec())
    for partition in range(PARTITIONS):
        for minute in TICKED:
            publisher.publish("ticks", str(partition), Tick(partition=partition, minute=minute), partition=partition)
    publisher.flush()


def records(settings: Settings, topic: str) -> Records:
    found: Records = []
    read_whole(settings, topic, lambda one: found.append((one.partition() or 0, bytes(one.key() or b""), value_of(one))))
    return sorted(found, key=lambda one: one[0])


def state(settings: Settings) -> dict[bytes, bytes | None]:
    return {key: value for _, key, value in records(settings, "assets")}


class Oracle:
    """The fold in memory, a state for each partition."""

    def __init__(self) -> None:
        self._codec = Codec()
        self._differ = Differ(Settings().differ, self._codec)
        self._states = [MemoryState() for _ in range(PARTITIONS)]
        self.emitted: list[Emit] = []

    def feed(self, partition: int, event: Event) -> None:
        context = Context(partition, PARTITIONS, self._states[partition], FixedTables())
        topic = "ticks" if isinstance(event, Tick) else "probes"
        raw = self._codec.encode(topic, event)
        self.emitted += self._differ.handle(Record(topic, partition, 0, START, "", None, raw, self._codec.read(topic, raw)), context)

    def run(self, units: list[Unit]) -> None:
        for unit in units:
            for event in () if unit.aborted else unit.events:
                self.feed(partition_of(subnet_key("default", unit.subnet), PARTITIONS), event)

    def tick(self) -> None:
        for partition in range(PARTITIONS):
            for minute in TICKED:
                self.feed(partition, Tick(partition=partition, minute=minute))

    @property
    def state(self) -> dict[bytes, bytes | None]:
        return {key.encode(): value for one in self._states for key, value in one.values.items()}

    def outputs(self, topic: str) -> Counter[tuple[bytes, bytes]]:
        mine = [one for one in self.emitted if one.topic == topic and one.event is not None]
        return Counter((one.key.encode(), self._codec.encode(topic, one.event)) for one in mine if one.event)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, "the engine did not get there in time: " + log.read_text()[-3000:]
        time.sleep(0.5)


def outputs(settings: Settings, topic: str) -> Counter[tuple[bytes, bytes]]:
    return Counter((key, value or b"") for _, key, value in records(settings, topic))


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("subnets", "rounds", "least"), [(4, 24, 400), pytest.param(6, 60, 1500, marks=pytest.mark.long)])
def test_both_engines_give_identical_changes_and_state(kafka: str, tmp_path: Path, subnets: int, rounds: int, least: int) -> None:
    units = list(recorded_log(seed=7, subnets=subnets, rounds=rounds))
    assert sum(len(unit.events) for unit in units) > least
    assert any(unit.aborted for unit in units)
    oracle = Oracle()
    oracle.run(units)
    before_ticks = len([one for one in oracle.emitted if one.topic == "changes"])
    oracle.tick()
    kinds = Counter(one.event.fields["kind"] for one in oracle.emitted if isinstance(one.event, Plain) and one.topic == "changes")
    assert len(kinds) >= 6, f"the log is too tame: {kinds}"
    changes: dict[str, Records] = {}
    for name in ENGINES:
        settings = settings_for(kafka, f"golden-{least}-{name}.", tmp_path / name)
        TopicAdmin(settings).apply()
        publish(settings, units)
        with engine(name, settings) as process:
            log = settings.data_dir / "log"
            wait_for(lambda now=settings: len(records(now, "changes")) >= before_ticks, process, log)  # type: ignore[misc]
            publish_ticks(settings)
            wait_for(lambda now=settings: state(now) == oracle.state, process, log)  # type: ignore[misc]
        changes[name] = records(settings, "changes")
        assert outputs(settings, "changes") == oracle.outputs("changes")
        assert outputs(settings, "targets") == oracle.outputs("targets")
        assert [value for _, _, value in records(settings, "dlq.probes")] == [b"no event"]
    assert changes["loop"] == changes["faust"]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.long
def test_faust_killed_in_the_middle_loses_nothing(kafka: str, tmp_path: Path) -> None:
    units = list(recorded_log(seed=8, subnets=3, rounds=25))
    oracle = Oracle()
    oracle.run(units)
    expected = oracle.outputs("changes")
    settings = settings_for(kafka, "golden-kill.", tmp_path / "kill")
    TopicAdmin(settings).apply()
    publish(settings, units)
    log = settings.data_dir / "log"
    with engine("faust", settings) as process:
        wait_for(lambda: len(records(settings, "changes")) > 0.4 * expected.total(), process, log)
        process.kill()
    with engine("faust", settings) as process:
        wait_for(lambda: set(outputs(settings, "changes")) >= set(expected), process, log)
        wait_for(lambda: state(settings) == oracle.state, process, log)
    assert set(outputs(settings, "changes")) == set(expected)
