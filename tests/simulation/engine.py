"""The real transactional loop on the simulated broker, and what is wrong with what it left there."""

from __future__ import annotations

import importlib
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import structlog
from confluent_kafka import KafkaException

from infra.core.errors import DriftlineError
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.loop import StepLoop
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.intel import IntelRecord
from schemas.events.operations import Rollup, Tick
from tests.simulation.broker import Broker
from tests.simulation.clients import SimConsumer, SimProducer
from tests.simulation.world import Faults, Process, World
from tests.tallying import BAD_SECOND, PLAN, START, Tally, folded, kept, told

PARTITIONS = 3
ROLE, STATE = PLAN.role, PLAN.changelog or ""
TOPICS = {"ticks": PARTITIONS, "rollups": PARTITIONS, STATE: PARTITIONS, "dlq.ticks": PARTITIONS, "intel": 1}


class QuickCodec(Codec):
    """The codec, which remembers what it has decoded: the same records come again with every seed."""

    def __init__(self) -> None:
        super().__init__()
        self._decoded: dict[tuple[str, bytes], Event] = {}

    def decode(self, topic: str, value: bytes) -> Event:
        """As the codec does."""
        known = self._decoded.get((topic, value))
        if known is None:
            known = self._decoded[topic, value] = super().decode(topic, value)
        return known


CODEC = QuickCodec()
MODULES = ("loop", "partitions", "globaltables", "client", "outbox")


class DiskStore:
    """`StateStore` on the disk of a simulated process: each write is whole, and may be the last thing it does."""

    def __init__(self, folder: Path, cluster: str) -> None:
        del folder, cluster
        self._world = Stage.world
        self._disk = self._world.current.disk

    def offset(self, partition: int) -> int:
        """The next changelog offset to replay from."""
        return self._disk.get(partition, ({}, 0))[1]

    def get(self, partition: int, key: str) -> bytes | None:
        """The value of a key, or None."""
        return self._disk.get(partition, ({}, 0))[0].get(key)

    def scan(self, partition: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Keys with this prefix and their values, in order."""
        values = self._disk.get(partition, ({}, 0))[0]
        yield from sorted((key, value) for key, value in values.items() if key.startswith(prefix))

    def restore(self, partition: int, changes: Iterable[tuple[bytes, bytes | None]], offset: int) -> None:
        """The same of what the changelog holds."""
        self.write(partition, {key.decode(): value for key, value in changes}, offset)

    def settle(self) -> None:
        """All is on the disk."""

    def write(self, partition: int, changes: Mapping[str, bytes | None], offset: int) -> None:
        """All or nothing."""
        self._world.call()
        values = self._disk.get(partition, ({}, 0))[0] | {key: value for key, value in changes.items() if value is not None}
        self._disk[partition] = {key: value for key, value in values.items() if changes.get(key, b"") is not None}, offset
        self._world.call()

    def wipe(self, partition: int) -> None:
        """Forget a partition."""
        self._disk.pop(partition, None)

    def close(self) -> None:
        """Nothing is open."""


class Stage:
    """The world that runs now: what the engine's modules are given in place of clients, clock and disk looks here."""

    world: ClassVar[World]


@contextmanager
def staged() -> Iterator[None]:
    """Put the simulated clients, clock and disk into the engine's modules."""
    structlog_was = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with ExitStack() as stack:
        stand_ins: dict[str, Any] = {
            "time": _StageClock(),
            "Consumer": lambda config: SimConsumer(Stage.world, config),
            "Producer": lambda config: SimProducer(Stage.world, config),
        }
        for module in MODULES:
            for name, stand_in in stand_ins.items():
                if hasattr(importlib.import_module(f"infra.kafka.{module}"), name):
                    stack.enter_context(mock.patch(f"infra.kafka.{module}.{name}", stand_in))
        stack.enter_context(mock.patch("infra.kafka.partitions.StateStore", DiskStore))
        try:
            yield
        finally:
            structlog.configure(**structlog_was)


class _StageClock:
    """Stands in for the module `time` in the modules that run in a world."""

    def monotonic(self) -> float:
        return Stage.world.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        Stage.world.wait(Stage.world.now + seconds, news=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: what was wrong (empty: nothing), how many calls it had, and which faults."""

    wrong: tuple[str, ...]
    calls: int
    story: tuple[str, ...]


def run(seed: int, faults: Faults, *, workers: int = 2, records: int = 24, kill_at: int | None = None) -> Outcome:
    """One run of a group of workers over some records. Raises NoProgressError if it does not come to its end."""
    world = Stage.world = World(seed, TOPICS, faults)
    world.kill_at = kill_at
    world.processes = [Process(f"worker-{number}", _worker(number)) for number in range(workers)]
    source = Process("source", lambda _: _source(world, records, made))
    made: list[bool] = []
    world.processes.append(source)
    world.until(lambda: bool(made) and _all_done(world.broker))
    return Outcome(tuple(_wrong(world)), world.steps, tuple(world.story))


SETTINGS = [Settings(data_dir=Path("/nonexistent"), slot=number, kafka=KafkaSettings(partitions=PARTITIONS)) for number in range(4)]


def _worker(slot: int) -> Any:
    def program(process: Process) -> None:
        try:
            StepLoop(SETTINGS[slot], PLAN, Tally(), CODEC).run(threading.Event(), lambda: None)
        except (DriftlineError, KafkaException) as error:  # the role ends loudly, and its supervisor starts it anew
            Stage.world.story.append(f"{Stage.world.now - 1e6:.3f} {process.name} ended: {error}")
            Stage.world.wait(Stage.world.now + 1.0, news=False)

    return program


def _source(world: World, records: int, made: list[bool]) -> None:
    """Append records now and then, some of them bad, and news of a global table between them."""
    luck = world.luck
    for number in range(records):
        place = "ticks", luck.randrange(PARTITIONS)
        kind = luck.random()
        if kind < 0.06:
            world.broker.append(place, b"k0", luck.choice((b"\x00\x00\x00\x00\x07junk", b"")))
        elif kind < 0.16:
            cve = f"CVE-2026-{luck.randrange(2)}"
            world.broker.append(("intel", 0), cve.encode(), CODEC.encode("intel", IntelRecord(cve=cve, as_of=START)))
        else:
            minute = START + timedelta(minutes=number, seconds=BAD_SECOND if kind > 0.95 else 0)
            world.broker.append(place, f"k{luck.randrange(4)}".encode(), CODEC.encode("ticks", Tick(partition=place[1], minute=minute)))
        if luck.random() < 0.4:
            world.wait(world.now + luck.choice((0.002, 0.05, 3.0)), news=False)
    made.append(True)
    world.broker.news += 1
    world.wait(float("inf"), news=False)


def _all_done(broker: Broker) -> bool:
    offsets = broker.groups[ROLE].offsets
    if any(one.open for one in broker.transactions.values()):
        return False
    if any(offsets.get(("ticks", number), 0) < len(broker.logs["ticks", number].entries) for number in range(PARTITIONS)):
        return False
    end = len(broker.logs["intel", 0].entries)
    return all(int(state(broker, number).get("\0applied|intel", b"0")) >= end for number in range(PARTITIONS))


def state(broker: Broker, partition: int) -> dict[str, bytes]:
    """What the changelog says."""
    found: dict[str, bytes] = {}
    for _, entry in broker.logs[STATE, partition].committed():
        key = (entry.key or b"").decode()
        if entry.value is None:
            found.pop(key, None)
        else:
            found[key] = entry.value
    return found


def _wrong(world: World) -> Iterator[str]:
    """Compare what the world holds with what a plain fold of the inputs gives."""
    broker = world.broker
    for number in range(PARTITIONS):
        wanted = folded(((entry.key, entry.value) for _, entry in broker.logs["ticks", number].committed()), CODEC)
        events = [CODEC.decode("rollups", entry.value or b"") for _, entry in broker.logs["rollups", number].committed()]
        outputs = [one for one in map(told, events) if one]
        if outputs != wanted.outputs:
            yield f"partition {number}: outputs {len(outputs)} of {len(wanted.outputs)}, not the same: {_differ(outputs, wanted.outputs)}"
        if kept(state(broker, number)) != wanted.state:
            yield f"partition {number}: state {kept(state(broker, number))} is not {wanted.state}"
        set_aside = [entry.value for _, entry in broker.logs["dlq.ticks", number].committed()]
        if set_aside != wanted.dead:
            yield f"partition {number}: {len(set_aside)} records in the DLQ, not {len(wanted.dead)}"
        yield from _judged_wrong(broker, number, [one for one in events if isinstance(one, Rollup) and one.kind == "judged"])
    yield from _stores_wrong(world)


def _judged_wrong(broker: Broker, number: int, judged: list[Rollup]) -> Iterator[str]:
    """Each version of a global record at most once in each partition, the latest of each key in any case."""
    times = Counter(one.count for one in judged)
    if any(count > 1 for count in times.values()) or any(one.value != 1 for one in judged):
        yield f"partition {number}: judged twice: {times}"
    latest = {entry.key: offset for offset, entry in broker.logs["intel", 0].committed()}
    if missing := set(latest.values()) - set(times):
        yield f"partition {number}: never judged by {missing}"


def _stores_wrong(world: World) -> Iterator[str]:
    """What a disk holds is the changelog up to the offset that it names."""
    for process in world.processes:
        for number, (values, offset) in process.disk.items():
            expected: dict[str, bytes] = {}
            for at, entry in world.broker.logs[STATE, number].committed():
                if at < offset:
                    expected[(entry.key or b"").decode()] = entry.value or b""
            if values != expected:
                yield f"{process.name}'s store of partition {number} is not the changelog up to {offset}"


def _differ(found: list[Any], wanted: list[Any]) -> list[Any]:
    return list((Counter(found) - Counter(wanted)) + (Counter(wanted) - Counter(found)))
