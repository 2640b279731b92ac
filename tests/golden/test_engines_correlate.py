"""The correlator too is the same on both engines: one log of changes gives identical exposures and state, global tables included."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import Popen

import pytest

from infra.core.ports import Context, Emit, FixedTables, MemoryState, Record
from infra.core.settings import Settings
from infra.kafka.client import Publisher
from infra.kafka.topics import TopicAdmin
from processors.correlate.correlating import Correlator
from schemas.codec import Codec
from schemas.events.assets import AssetChange
from schemas.events.base import Event
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.findings import Exposure
from schemas.events.intel import AffectedProduct, IntelRecord, VersionRange
from schemas.events.operations import Tick
from schemas.ids import partition_of, subnet_key
from tests.golden.recorded_log import recorded_log
from tests.golden.test_engines import ENGINES, PARTITIONS, Oracle, engine, outputs, records, settings_for, wait_for
from tests.sightings import START, at

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]
OWNED = InventoryRecord(network="198.18.1.0/24", owner="web team", criticality=Criticality.NORMAL, changed_by="test")
CRITICAL = OWNED.model_copy(update={"criticality": Criticality.CRITICAL})
EXPLOITED = IntelRecord(
    cve="CVE-2099-0001",
    kev=True,
    affected=(AffectedProduct(vendor="nginx", product="nginx", versions=(VersionRange(less_than="1.23.0"),)),),
    as_of=START,
)
INVENTORY_KEY = subnet_key("default", OWNED.network)
TICKED = at(400 * 3600)
Known = dict[tuple[int, bytes], bytes | None]


def changes_of(seed: int) -> list[tuple[Emit, AssetChange]]:
    """What the differ makes of a recorded log."""
    oracle, codec = Oracle(), Codec()
    oracle.run(list(recorded_log(seed=seed, subnets=4, rounds=30)))
    found = [
        (one, codec.decode("changes", codec.encode("changes", one.event))) for one in oracle.emitted if one.topic == "changes" and one.event
    ]
    return [(one, event) for one, event in found if isinstance(event, AssetChange)]


def home(change: AssetChange) -> int:
    return partition_of(subnet_key(change.zone, change.subnet), PARTITIONS)


def in_memory(log: list[tuple[Emit, AssetChange]]) -> tuple[int, Counter[tuple[bytes, bytes]], int]:
    """The step alone, without an engine: how many exposures the changes bring, those after the ticks, how many with the new inventory."""
    step, codec = Correlator(), Codec()
    inventory: dict[str, Event] = {INVENTORY_KEY: OWNED}
    tables = FixedTables({"inventory": inventory, "intel": {EXPLOITED.cve: EXPLOITED}})
    contexts = [Context(number, PARTITIONS, MemoryState(), tables) for number in range(PARTITIONS)]
    told: list[Emit] = []
    for context in contexts:
        told += step.handle(Record("inventory", 0, 0, START, INVENTORY_KEY, OWNED), context)
        told += step.handle(Record("intel", 0, 0, START, EXPLOITED.cve, EXPLOITED), context)
    for emit, change in log:
        told += step.handle(Record("changes", home(change), 0, START, emit.key, change), contexts[home(change)])
    changed = len(told)
    for number, context in enumerate(contexts):
        told += step.handle(Record("ticks", number, 0, START, str(number), Tick(partition=number, minute=TICKED)), context)
    after_ticks = Counter((one.key.encode(), codec.encode("exposures", one.event)) for one in told if one.event is not None)
    inventory[INVENTORY_KEY] = CRITICAL
    for context in contexts:
        told += step.handle(Record("inventory", 0, 0, TICKED, INVENTORY_KEY, CRITICAL), context)
    return changed, after_ticks, len(told)


def tick(settings: Settings, minute: datetime) -> None:
    publisher = Publisher(settings, Codec())
    for partition in range(PARTITIONS):
        publisher.publish("ticks", str(partition), Tick(partition=partition, minute=minute), partition=partition)
    publisher.flush()


def state(settings: Settings) -> Known:
    """The changelog, compacted: what stands under each key of each partition."""
    latest = {(partition, key): value for partition, key, value in records(settings, "state.correlator")}
    return {place: value for place, value in latest.items() if value is not None}


def judged(settings: Settings) -> Counter[tuple[str, int, float, str]]:
    """The exposures without the times, of which one is the broker's where the inventory changed."""
    codec = Codec()
    found = [codec.decode("exposures", value) for _, _, value in records(settings, "exposures") if value]
    return Counter((one.exposure_id, one.revision, one.base_risk, one.owner) for one in found if isinstance(one, Exposure))


@pytest.mark.long
def test_both_engines_give_identical_exposures_and_state(kafka: str, tmp_path: Path) -> None:
    log = changes_of(seed=11)
    changed, expected, last = in_memory(log)
    assert 200 < changed < expected.total() < last, "each part of the log has to bring something"
    states: dict[str, Known] = {}
    after: dict[str, Counter[tuple[str, int, float, str]]] = {}
    for name in ENGINES:
        settings = settings_for(kafka, f"golden-correlate-{name}.", tmp_path / name)
        TopicAdmin(settings).apply()
        publisher = Publisher(settings, Codec())
        publisher.publish("inventory", INVENTORY_KEY, OWNED)
        publisher.publish("intel", EXPLOITED.cve, EXPLOITED)
        for emit, change in log:
            publisher.publish("changes", emit.key, change, partition=home(change))
        publisher.flush()
        with engine(name, settings, "correlator") as process:

            def told(count: int, process: Popen[bytes] = process, settings: Settings = settings) -> None:
                wait_for(lambda: len(records(settings, "exposures")) >= count, process, settings.data_dir / "log")

            told(changed)
            tick(settings, TICKED)
            told(expected.total())
            assert outputs(settings, "exposures") == expected
            states[name] = state(settings)
            publisher.publish("inventory", INVENTORY_KEY, CRITICAL)
            publisher.flush()
            tick(settings, TICKED + timedelta(minutes=1))
            told(last)
        after[name] = judged(settings)
    assert states["loop"] == states["faust"]
    assert {key for _, key in states["loop"]} >= {b"\0applied|inventory", b"\0applied|intel"}
    assert after["loop"] == after["faust"]
