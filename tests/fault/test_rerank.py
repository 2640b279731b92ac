"""A crash between applying a change of `intel` or `inventory` and re-ranking what it touches loses no re-rank.

The real correlator on the real loop in the simulated world: it is killed at every single call, and in worlds of many kinds of trouble.
Each partition holds two services that the changes of the tables concern; whoever dies when, at the end each is ranked as a plain fold
of the log ranks it, and no exposure was told twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from confluent_kafka import KafkaException

from infra.core.errors import DriftlineError
from infra.core.ports import Context, FixedTables, MemoryState, Record
from infra.kafka.loop import StepLoop
from processors.correlate.correlating import Correlator
from processors.correlate.role import PLAN
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.base import Event
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.findings import Exposure, ExposureEvent
from schemas.events.intel import AffectedProduct, IntelRecord, VersionRange
from schemas.events.observations import ServiceObservation
from schemas.ids import subnet_key
from tests.sightings import START
from tests.simulation.engine import CODEC, PARTITIONS, SETTINGS, Stage, staged, state
from tests.simulation.world import NONE, Faults, Process, World

TOPICS = {"changes": PARTITIONS, "ticks": PARTITIONS, "exposures": PARTITIONS, "state.correlator": PARTITIONS, "intel": 1, "inventory": 1}
TOPICS |= {f"dlq.{name}": PARTITIONS for name in ("changes", "ticks")}
REDIS = ServiceObservation(port=6379, service="redis", product="Redis key-value store", facts={"redis.auth": "none"})
NGINX = ServiceObservation(port=80, service="http", product="nginx", version="1.22.1", cpes=("cpe:2.3:a:nginx:nginx:1.22.1:*:*:*:*:*:*:*",))
EXPLOITED = IntelRecord(
    cve="CVE-2099-0001",
    kev=True,
    affected=(AffectedProduct(vendor="nginx", product="nginx", versions=(VersionRange(less_than="1.23.0"),)),),
    as_of=START,
)
NETWORKS = [f"198.18.{number}.0/24" for number in range(PARTITIONS)]
Said = dict[str, tuple[float, bool, str, tuple[str, ...]]]
WORLDS, MANY = 15, 500


def change(partition: int, number: int, seen: ServiceObservation) -> AssetChange:
    """A service that opened in a partition's subnet."""
    return AssetChange(
        change_id=f"c{partition}-{number}",
        kind=ChangeKind.SERVICE_OPENED,
        zone="default",
        address=f"198.18.{partition}.7",
        subnet=NETWORKS[partition],
        revision=number,
        port=seen.port,
        after=seen,
        summary="…",
        evidence_ids=("u1",),
        observed_at=START,
    )


def log() -> Iterator[tuple[str, int, str, Event]]:
    """Topic, partition, key and event in their order: services, then what the tables say of them, then one more service."""
    for partition in range(PARTITIONS):
        yield "changes", partition, "", change(partition, 1, REDIS)
        yield "changes", partition, "", change(partition, 2, NGINX)
    yield "intel", 0, EXPLOITED.cve, EXPLOITED
    for network in NETWORKS:
        owned = InventoryRecord(network=network, owner="web team", criticality=Criticality.CRITICAL, changed_by="test")
        yield "inventory", 0, subnet_key("default", network), owned
    for partition in range(PARTITIONS):
        yield "changes", partition, "", change(partition, 3, REDIS.model_copy(update={"port": 6380}))


def what(exposures: list[Exposure]) -> Said:
    """The last word on each exposure."""
    return {one.exposure_id: (one.base_risk, one.event is ExposureEvent.RESOLVED, one.owner, one.cves) for one in exposures}


def folded() -> Said:
    """The log, folded without any engine."""
    step, tables = Correlator(), dict[str, dict[str, Event]](intel={}, inventory={})
    contexts = [Context(number, PARTITIONS, MemoryState(), FixedTables(tables)) for number in range(PARTITIONS)]
    told: list[Exposure] = []
    for topic, partition, key, event in log():
        if topic in tables:
            tables[topic][key] = event
        for context in contexts if topic in tables else [contexts[partition]]:
            emits = step.handle(Record(topic, partition, 0, START + timedelta(hours=1), key, event), context)
            told += [one.event for one in emits if isinstance(one.event, Exposure)]
    return what(told)


def run(seed: int, faults: Faults, kill_at: int | None = None) -> tuple[list[str], World]:
    """One run of two correlators; what was wrong with what they left, and the world."""
    world = Stage.world = World(seed, TOPICS, faults)
    world.kill_at = kill_at
    made: list[bool] = []
    world.processes = [Process(f"worker-{number}", _worker(number)) for number in range(2)]
    world.processes.append(Process("source", lambda _: _source(world, made)))
    world.until(lambda: bool(made) and _done(world))
    found = []
    for number in range(PARTITIONS):
        for _, entry in world.broker.logs["exposures", number].committed():
            event = CODEC.decode("exposures", entry.value or b"")
            assert isinstance(event, Exposure)
            found.append(event)
    wrong = []
    if len({(one.exposure_id, one.revision) for one in found}) != len(found):
        wrong.append("an exposure was told twice")
    said, wanted = what(sorted(found, key=lambda one: one.revision)), folded()
    wrong += [
        f"{key} says {said.get(key)}, not {wanted.get(key)}" for key in said.keys() | wanted.keys() if said.get(key) != wanted.get(key)
    ]
    return wrong, world


def _worker(slot: int) -> Any:
    def program(process: Process) -> None:
        try:
            StepLoop(SETTINGS[slot], PLAN, Correlator(intel_header=CODEC.header("intel")), CODEC).run(threading.Event(), lambda: None)
        except (DriftlineError, KafkaException) as error:
            Stage.world.story.append(f"{process.name} ended: {error}")
            Stage.world.wait(Stage.world.now + 1.0, news=False)

    return program


def _source(world: World, made: list[bool]) -> None:
    for topic, partition, key, event in log():
        world.broker.append((topic, partition), key.encode(), CODEC.encode(topic, event))
        if world.luck.random() < 0.3:
            world.wait(world.now + world.luck.choice((0.002, 0.05, 1.0)), news=False)
    made.append(True)
    world.broker.news += 1
    world.wait(float("inf"), news=False)


def _done(world: World) -> bool:
    broker = world.broker
    offsets = broker.groups[PLAN.role].offsets
    if any(one.open for one in broker.transactions.values()):
        return False
    if any(offsets.get(("changes", number), 0) < len(broker.logs["changes", number].entries) for number in range(PARTITIONS)):
        return False
    ends = {topic: len(broker.logs[topic, 0].entries) for topic in PLAN.global_inputs}
    return all(int(state(broker, number).get(f"\0applied|{topic}", b"0")) >= ends[topic] for number in range(PARTITIONS) for topic in ends)


@pytest.mark.parametrize("stride", [pytest.param(5, id="some"), pytest.param(1, id="each", marks=pytest.mark.long)])
def test_a_crash_at_any_call_loses_no_rerank(stride: int) -> None:
    with staged():
        wrong, world = run(1, NONE)
        assert wrong == []
        for at in range(1, world.steps + 1, stride):
            wrong, _ = run(1, NONE, kill_at=at)
            assert wrong == [], f"killed at call {at} of {world.steps}"
    risks = [risk for risk, *_ in folded().values()]
    print(f"{world.steps} calls, {stride} apart the last one; {len(risks)} exposures")
    assert any(cves for *_, cves in folded().values()), "nothing was re-ranked by intel"
    assert {owner for _, _, owner, _ in folded().values()} == {"web team"}, "nothing was re-ranked by the inventory"


@pytest.mark.parametrize("worlds", [WORLDS, pytest.param(MANY, marks=pytest.mark.long)])
def test_no_rerank_is_lost_in_worlds_of_trouble(worlds: int) -> None:
    first = int.from_bytes(os.urandom(4), "big")
    print(f"seeds {first} to {first + worlds - 1}")
    with staged():
        found = {seed: run(seed, Faults()) for seed in range(first, first + worlds)}
    assert {seed: wrong for seed, (wrong, _) in found.items() if wrong} == {}
    assert any("kill" in word for _, world in found.values() for word in world.story)


@contextmanager
def noted_too_early() -> Iterator[None]:
    """A mutant: that a table's news was applied is committed first, and what it touches is ranked in the next transaction."""
    owed: dict[StepLoop, list[tuple[int, Record]]] = {}
    news_as_it_is = StepLoop._global_news

    def global_news(self: StepLoop) -> bool:
        return bool(owed.get(self)) or news_as_it_is(self)

    def apply_tables(self: StepLoop, until: float) -> bool:
        del until
        for partition, record in owed.pop(self, []):
            if self._partitions.has(partition):
                self._apply(partition, record)
        for topic in self._plan.global_inputs:
            for partition in self._partitions.owned():
                done, news = self._partitions.applied(partition, topic), self._tables.next_offset(topic)
                if done < news:
                    owed.setdefault(self, []).extend((partition, record) for record in self._tables.since(topic, done))
                    self._partitions.note_applied(partition, topic, news)
        return True

    with mock.patch.object(StepLoop, "_apply_tables", apply_tables), mock.patch.object(StepLoop, "_global_news", global_news):
        yield


def test_an_engine_that_notes_too_early_is_found_out() -> None:
    with staged():
        calls = run(1, NONE)[1].steps
        with noted_too_early():
            found = next((at for at in range(1, calls) if run(1, NONE, kill_at=at)[0]), None)
    print(f"found out by a kill at call {found} of {calls}")
    assert found is not None
