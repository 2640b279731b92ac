"""The transactional loop on the real broker: exactly one effect a record, through poison, kills and lost disks."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from infra.core.errors import Poison, UnreadableState
from infra.core.ports import Context, Emit, Record, StepPlan, read_state
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, prefixed, producer_config, read_whole, value_of
from infra.kafka.globaltables import GlobalTables
from infra.kafka.loop import run_step
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from schemas.events.context import InventoryRecord
from schemas.events.operations import Rollup, Tick

pytestmark = pytest.mark.kafka
PLAN = StepPlan("correlator", ("ticks",), changelog="state.correlator", global_inputs=("inventory",))
START = datetime(2026, 1, 1, tzinfo=UTC)


class Counting:
    """Counts ticks a partition in its state and tells each count; odd on purpose about ticks of 1999, 1998 and 1997."""

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """One rollup a tick; the inventory is noted in the state."""
        if isinstance(record.event, InventoryRecord):
            context.state.put(f"owner|{record.key}", record.event.owner.encode())
            return
        assert isinstance(record.event, Tick)
        if record.event.minute.year == 1999:
            context.state.put("count", b"poisoned")
            raise Poison("1999 is over")
        if record.event.minute.year == 1998:
            raise OverflowError("no one thought of 1998")
        if record.event.minute.year == 1997:
            context.state.put("count", b"as version 9 writes it")
            return
        time.sleep(self._pause)
        count = read_state("count", context.state.get("count") or b"0", int) + 1
        context.state.put("count", str(count).encode())
        yield Emit("rollups", f"p{context.partition}", _rollup(count), partition=context.partition)


def _rollup(count: int) -> Rollup:
    return Rollup(name="ticks", zone="default", kind="", window_start=START, window_seconds=60, count=count, value=0.0)


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """Settings of their own: a fresh prefix on the shared broker, three partitions, topics made."""
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=3))
    TopicAdmin(made).apply()
    return made


def push(settings: Settings, count: int) -> None:
    publisher = Publisher(settings, Codec())
    for number in range(count):
        tick = Tick(partition=number % 3, minute=START + timedelta(minutes=number))
        publisher.publish("ticks", str(number % 3), tick, partition=number % 3)
    publisher.flush()


def read(settings: Settings, topic: str) -> list[Message]:
    found: list[Message] = []
    read_whole(settings, topic, found.append)
    return found


def counts(settings: Settings) -> list[tuple[int, int]]:
    found = []
    for message in read(settings, "rollups"):
        event = Codec().decode("rollups", value_of(message) or b"")
        assert isinstance(event, Rollup)
        found.append((message.partition() or 0, event.count))
    return sorted(found)


def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


class Running:
    """A loop in a thread of this process."""

    def __init__(self, settings: Settings) -> None:
        self.stop, self.ready = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(settings,))

    def _run(self, settings: Settings) -> None:
        try:
            run_step(settings, PLAN, lambda _: Counting(), self.stop, self.ready.set)
        except Exception as error:  # noqa: BLE001  the test asks what stopped the loop
            self.error = error

    def __enter__(self) -> Running:
        self._thread.start()
        assert self.ready.wait(30) or self.error
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(20)


def test_each_record_has_one_effect(settings: Settings) -> None:
    push(settings, 300)
    with Running(settings):
        until(lambda: len(counts(settings)) == 300)
    assert counts(settings) == [(partition, count) for partition in range(3) for count in range(1, 101)]


def test_an_empty_record_that_comes_alone_is_set_aside(settings: Settings) -> None:
    """A message without bytes counts as false in Python: so the first of a batch was once dropped."""
    producer = Producer(producer_config(settings))
    with Running(settings):
        for number in range(3):
            producer.produce(prefixed(settings, "ticks"), b"", b"k", 0)
            producer.flush(20)
            until(lambda number=number: len(read(settings, "dlq.ticks")) == number + 1)  # type: ignore[misc]


def test_state_comes_back_from_the_changelog_when_the_disk_is_gone(settings: Settings) -> None:
    push(settings, 30)
    with Running(settings):
        until(lambda: len(counts(settings)) == 30)
    shutil.rmtree(settings.data_dir / "state")
    push(settings, 30)
    with Running(settings):
        until(lambda: len(counts(settings)) == 60)
    assert counts(settings) == [(partition, count) for partition in range(3) for count in range(1, 21)]


@pytest.mark.parametrize("damage", ["bytes", "cut", "manifest", "gone"])
def test_a_damaged_state_is_thrown_away_and_made_anew(settings: Settings, damage: str) -> None:
    push(settings, 30)
    with Running(settings):
        until(lambda: len(counts(settings)) == 30)
    rocks = settings.data_dir / "state" / f"{settings.kafka.prefix}correlator-0" / "rocks"
    tables = sorted(rocks.glob("*.sst")) or sorted(rocks.glob("*.log"))
    if damage == "manifest":
        (rocks / "CURRENT").write_bytes(b"")
    for table in tables:
        data = table.read_bytes()
        if damage == "bytes":
            table.write_bytes(bytes(255 - one for one in data))
        elif damage == "cut":
            table.write_bytes(data[: len(data) // 3])
        elif damage == "gone":
            table.unlink()
    push(settings, 30)
    with Running(settings) as running:
        until(lambda: len(counts(settings)) == 60 or running.error is not None)
    assert running.error is None
    assert counts(settings) == [(partition, count) for partition in range(3) for count in range(1, 21)]


def test_poison_goes_to_the_dlq_and_leaves_no_trace_in_the_state(settings: Settings) -> None:
    publisher = Publisher(settings, Codec())
    publisher.publish("ticks", "0", Tick(partition=0, minute=datetime(1999, 1, 1, tzinfo=UTC)), partition=0)
    publisher.publish("ticks", "0", Tick(partition=0, minute=datetime(1998, 1, 1, tzinfo=UTC)), partition=0)
    publisher.flush()
    publisher._producer.produce(f"{settings.kafka.prefix}ticks", b"\xff\xfe not avro", b"0", 0)
    publisher.flush()
    push(settings, 3)
    with Running(settings):
        until(lambda: len(counts(settings)) == 3)
    assert counts(settings) == [(0, 1), (1, 1), (2, 1)]
    dead = read(settings, "dlq.ticks")
    reasons = [dict(message.headers() or [])["error.reason"] for message in dead]
    assert reasons[0] == b"1999 is over"
    assert reasons[1] == b"OverflowError: no one thought of 1998"
    assert value_of(dead[2]) == b"\xff\xfe not avro"


def test_a_state_that_cannot_be_read_stops_the_role_and_sets_no_record_aside(settings: Settings) -> None:
    publisher = Publisher(settings, Codec())
    publisher.publish("ticks", "0", Tick(partition=0, minute=datetime(1997, 1, 1, tzinfo=UTC)), partition=0)
    publisher.flush()
    push(settings, 1)
    with Running(settings) as running:
        until(lambda: running.error is not None)
    assert isinstance(running.error, UnreadableState)
    assert "as version 9" in str(running.error)
    assert read(settings, "dlq.ticks") == []
    with Running(settings) as again:
        until(lambda: again.error is not None)
    assert isinstance(again.error, UnreadableState), "the record waits until its state can be read"


def test_mostly_poison_blows_the_fuse_and_keeps_every_byte(settings: Settings) -> None:
    publisher = Publisher(settings, Codec())
    for number in range(80):
        publisher._producer.produce(f"{settings.kafka.prefix}ticks", b"bad %d" % number, b"0", 0)
    publisher.flush()
    with Running(settings) as running:
        until(lambda: running.error is not None)
    assert type(running.error).__name__ == "FuseBlown"
    assert [value_of(one) for one in read(settings, "dlq.ticks")] == [b"bad %d" % number for number in range(80)]


def test_a_global_input_reaches_every_partition_once(settings: Settings) -> None:
    publisher = Publisher(settings, Codec())
    publisher.publish("inventory", "198.18.0.0/24", InventoryRecord(network="198.18.0.0/24", owner="web team"))
    publisher.flush()
    for _ in range(2):
        with Running(settings):
            until(lambda: len([one for one in read(settings, "state.correlator") if one.key() == b"owner|198.18.0.0/24"]) == 3)
    assert sorted(one.partition() or 0 for one in read(settings, "state.correlator") if one.key() == b"owner|198.18.0.0/24") == [0, 1, 2]


def _worker(settings: Settings) -> None:
    run_step(settings, PLAN, lambda _: Counting(pause=0.002), threading.Event(), lambda: None)


def test_kill_nine_at_any_moment_changes_nothing(settings: Settings) -> None:
    push(settings, 900)
    spawn = multiprocessing.get_context("spawn")
    for pause in (2.0, 2.3, 2.7):
        worker = spawn.Process(target=_worker, args=(settings,), daemon=True)
        worker.start()
        time.sleep(pause)  # the moment of the kill is what the test varies
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
    with Running(settings):
        until(lambda: len(counts(settings)) >= 900)
    assert counts(settings) == [(partition, count) for partition in range(3) for count in range(1, 301)]


def test_every_record_of_a_global_input_is_handed_over_not_only_the_latest_of_a_key(settings: Settings) -> None:
    def owners(tables: GlobalTables, start: int) -> list[str]:
        return [one.event.owner for one in tables.since("inventory", start) if isinstance(one.event, InventoryRecord)]

    tables = GlobalTables(settings, ("inventory",), Codec(), ("inventory",))
    tables.load()
    publisher = Publisher(settings, Codec())
    for owner in ("first", "second", "third"):
        publisher.publish("inventory", "198.18.0.0/24", InventoryRecord(network="198.18.0.0/24", owner=owner))
    publisher.flush()
    until(lambda: tables.poll() is not None and tables.next_offset("inventory") == 3)
    assert owners(tables, 0) == ["first", "second", "third"]
    tables.forget("inventory", 2)
    assert (owners(tables, 0), owners(tables, 2), owners(tables, 3)) == (["third"], ["third"], [])
    tables.close()


def owner_of(record: Record) -> tuple[str, ...]:
    return (record.event.owner,) if isinstance(record.event, InventoryRecord) else ()


def test_an_index_of_a_global_table_follows_it(settings: Settings) -> None:
    publisher = Publisher(settings, Codec())

    def publish(*records: tuple[str, str | None]) -> None:
        for network, owner in records:
            publisher.publish("inventory", network, InventoryRecord(network=network, owner=owner) if owner else None)
        publisher.flush()

    publish(("198.18.0.0/24", "web"), ("198.18.1.0/24", "web"))
    tables = GlobalTables(settings, ("inventory",), Codec(), ("inventory",))
    tables.load()
    index = tables.index("inventory", owner_of)
    assert index == {"web": {"198.18.0.0/24", "198.18.1.0/24"}}
    publish(("198.18.1.0/24", "ops"), ("198.18.0.0/24", None), ("198.18.2.0/24", None))
    until(lambda: tables.poll() is not None and tables.next_offset("inventory") == 5)
    assert tables.index("inventory", owner_of) is index
    assert index == {"ops": {"198.18.1.0/24"}}
    tables.close()


def test_a_bad_record_of_the_largest_size_goes_to_the_dlq_whole(settings: Settings) -> None:
    publisher = Publisher(settings, Codec())
    large = os.urandom(3 << 20)
    publisher._producer.produce(f"{settings.kafka.prefix}ticks", large, b"0", 0)
    publisher.flush()
    push(settings, 3)
    with Running(settings):
        until(lambda: len(counts(settings)) == 3)
    assert [value_of(one) for one in read(settings, "dlq.ticks")] == [large]
