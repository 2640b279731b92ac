"""The archiver's real pump and sink on a simulated broker and store, and what is wrong with the rows that they left there."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import structlog
from confluent_kafka import KafkaException

from consumers.archive.blocks import Columns
from consumers.archive.clickhouse import ClickHouseSink
from consumers.archive.progress import Progress
from consumers.archive.pump import Pump
from infra.core.errors import DriftlineError
from infra.core.settings import ArchiverSettings, KafkaSettings, Settings
from schemas.codec import UndecodableError
from schemas.events.assets import AssetChange
from schemas.events.findings import Finding
from schemas.events.observations import HostObservation
from schemas.examples import EXAMPLES
from schemas.ids import content_id
from schemas.rows import rows_of
from tests.simulation import threads
from tests.simulation.broker import Entry, Place
from tests.simulation.clients import SimConsumer, SimProducer
from tests.simulation.engine import Outcome, QuickCodec
from tests.simulation.store import KEYS, MOST, Row, SimClient, SimStore, plain_row
from tests.simulation.world import Faults, Process, World

PARTITIONS, GROUP = 2, "archiver"
TABLES = {"probes": "observations", "changes": "changes", "findings": "findings"}
TOPICS = {name: PARTITIONS for topic in TABLES for name in (topic, f"dlq.{topic}")}
CODEC = QuickCodec()
SEEN = next(event for _, event in EXAMPLES if isinstance(event, HostObservation))
CHANGE = next(event for _, event in EXAMPLES if isinstance(event, AssetChange))
FOUND = next(event for _, event in EXAMPLES if isinstance(event, Finding))
JUNK = b"\x00\x00\x00\x00\x07junk"
STOP_CHANCE = 0.002
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Stage:
    """The world that runs now: what the archiver's modules are given in place of clients, clock and threads looks here."""

    world: ClassVar[World]


class SimAdmin:
    """The admin client as far as the pump asks: where partitions end, open transactions included."""

    def list_offsets(self, places: dict[Any, Any], request_timeout: float) -> dict[Any, Any]:
        """The ends of these partitions, as futures."""
        world = Stage.world
        world.call()
        ends = {one: len(world.broker.logs[one.topic, one.partition].entries) for one in places}
        return {one: SimpleNamespace(result=lambda timeout, end=end: SimpleNamespace(offset=end)) for one, end in ends.items()}


class Leave:
    """The role's stop flag: now and then somebody asks it to go, in order."""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        """Whether it is to go."""
        self._set = self._set or (Stage.world.faults.most > 0 and Stage.world.luck.random() < STOP_CHANCE)
        return self._set


class _Now:
    @staticmethod
    def now(zone: Any) -> datetime:
        """The world's clock."""
        return EPOCH.astimezone(zone) + timedelta(seconds=Stage.world.now)


class _NoMeter:
    """Counts nothing: what is counted tells nothing here, and takes a tenth of the time."""

    def __init__(self, role: str) -> None:
        del role

    def __getattr__(self, name: str) -> Any:
        return _nothing


def _nothing(*counted: Any) -> None:
    del counted


@contextmanager
def staged() -> Iterator[None]:
    """Put the simulated clients, clock and threads into the archiver's modules."""
    structlog_was = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    clock = SimpleNamespace(monotonic=lambda: Stage.world.now)
    stand_ins: dict[str, Any] = {
        "pump.time": clock,
        "intake.time": clock,
        "pump.Meter": _NoMeter,
        "pump.datetime": _Now,
        "pump.Consumer": lambda config: SimConsumer(Stage.world, config),
        "pump.AdminClient": lambda config: SimAdmin(),
        "letters.Producer": lambda config: SimProducer(Stage.world, config),
        "pump.ThreadPoolExecutor": lambda count, thread_name_prefix: threads.SimPool(Stage.world, thread_name_prefix),
        "clickhouse.ThreadPoolExecutor": lambda count, thread_name_prefix: threads.SimPool(Stage.world, thread_name_prefix),
        "pump.wait": lambda futures, seconds: threads.wait(Stage.world, futures, seconds),
    }
    with ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch(f"consumers.archive.{name}", stand_in))
        try:
            yield
        finally:
            structlog.configure(**structlog_was)


def run(seed: int, faults: Faults, *, workers: int = 2, records: int = 16, kill_at: int | None = None, columns: bool = False) -> Outcome:
    """One run of archivers over some records; with `columns` by blocks. Raises NoProgressError if it does not come to its end."""
    world = Stage.world = World(seed, TOPICS, faults)
    world.kill_at = kill_at
    wrong: list[str] = []
    seen: dict[Place, int] = {}  # up to where each partition was found to be written
    store = SimStore(lambda table, rows: wrong.extend(_marks_wrong(world, store, rows, seen) if table == "watermark_parts" else ()))
    world.processes = [Process(f"archiver-{number}", _worker(number, store, columns)) for number in range(workers)]
    made: list[bool] = []
    world.processes.append(Process("source", lambda _: _source(world, records, made)))
    world.until(lambda: bool(made) and _all_done(world))
    return Outcome((*wrong, *_wrong(world, store)), world.steps, tuple(world.story))


SETTINGS = Settings(data_dir=Path("/nonexistent"), kafka=KafkaSettings(partitions=PARTITIONS), archiver=ArchiverSettings(batch_rows=10))
COLUMNS = Columns(CODEC)


def _worker(number: int, store: SimStore, columns: bool) -> Any:
    del number

    def program(process: Process) -> None:
        world, progress = Stage.world, Progress()
        try:
            sink = ClickHouseSink(lambda: SimClient(world, store), progress, tuple(TABLES))  # type: ignore[arg-type,return-value]
            Pump(SETTINGS, sink, GROUP, CODEC, progress, COLUMNS if columns else None).run(Leave(), lambda: None)  # type: ignore[arg-type]
            world.story.append(f"{world.now - 1e6:.3f} stop {process.name}")
        except (DriftlineError, KafkaException) as error:  # the role ends loudly, and its supervisor starts it anew
            world.story.append(f"{world.now - 1e6:.3f} {process.name} ended: {error}")
        world.wait(world.now + 1.0, news=False)

    return program


def _source(world: World, records: int, made: list[bool]) -> None:
    """Append records now and then: some can't be decoded, some not be written, some never come to be committed."""
    luck = world.luck
    for number in range(records):
        topic = luck.choice([*TABLES])
        place = topic, luck.randrange(PARTITIONS)
        kind = luck.random()
        value = luck.choice((JUNK, b"")) if kind < 0.05 else _value(topic, number % 16, kind > 0.93, luck.randrange(4))
        if kind < 0.85:
            world.broker.append(place, b"k", value)
        else:
            owner = "producer", world.broker.start("producer")
            world.broker.append(place, b"k", value, owner=owner)
            world.wait(world.now + luck.choice((0.002, 1.0)), news=False)
            world.broker.end(owner, luck.choice(("committed", "aborted")))
        if luck.random() < 0.4:
            world.wait(world.now + luck.choice((0.002, 0.05, 0.05, 3.0)), news=False)
    world.wait(world.now + luck.choice((0.0, 16.0)), news=False)  # long enough for a look at the ends
    made.append(True)
    world.broker.news += 1
    world.wait(float("inf"), news=False)


@functools.cache
def _value(topic: str, number: int, refused: bool, which: int) -> bytes:
    """One of few events, so that each is encoded and decoded once in all runs. One that is `refused` does not fit into its column."""
    if topic == "probes":
        more = {"attempt": 1 << 40} if refused else {}
        seen = SEEN.model_copy(update={"observation_id": content_id("o", str(number)), "address": f"198.18.0.{number}", **more})
        return CODEC.encode(topic, seen)
    if topic == "changes":
        return CODEC.encode(topic, CHANGE.model_copy(update={"change_id": content_id("c", str(number)), "address": f"198.18.0.{number}"}))
    return CODEC.encode(topic, FOUND.model_copy(update={"finding_id": content_id("f", str(which)), "revision": number}))


def _all_done(world: World) -> bool:
    broker = world.broker
    offsets = broker.groups[GROUP].offsets
    if any(one.open for one in broker.transactions.values()) or any(one.name == "later" for one in world.processes):
        return False
    for topic in TABLES:
        for number in range(PARTITIONS):
            last = max((offset for offset, _ in broker.logs[topic, number].committed()), default=-1)
            if offsets.get((topic, number), 0) <= last:
                return False
    return True


@functools.lru_cache(maxsize=20_000)
def _rows(topic: str, value: bytes, at_ms: int) -> list[tuple[str, Row]] | None:
    """The rows that a record becomes; None if it is to be set aside."""
    try:
        event = CODEC.decode(topic, value)
    except UndecodableError:
        return None
    rows = [(table, plain_row(row)) for table, row in rows_of(event, EPOCH + timedelta(milliseconds=at_ms))]
    refused = any(not 0 <= row.get(name, 0) <= most for _, row in rows for name, most in MOST.items())
    return None if refused else rows


def _rows_of(topic: str, entry: Entry) -> list[tuple[str, Row]] | None:
    return _rows(topic, entry.value or b"", int(entry.at * 1000))


def _wrong(world: World, store: SimStore) -> Iterator[str]:
    """Compare the tables and the dead letters with what a reader of committed records derives from offset 0."""
    wanted = {table: dict[tuple[Any, ...], list[Row]]() for table in TABLES.values()}
    for topic, table in TABLES.items():
        columns, _ = KEYS[table]
        bad: Counter[bytes] = Counter()
        for number in range(PARTITIONS):
            for _, entry in world.broker.logs[topic, number].committed():
                rows = _rows_of(topic, entry)
                if rows is None:
                    bad[entry.value or b""] += 1
                for _, row in rows or ():
                    wanted[table].setdefault(tuple(row[name] for name in columns), []).append(row)
        letters = Counter(
            entry.value or b"" for number in range(PARTITIONS) for _, entry in world.broker.logs[f"dlq.{topic}", number].committed()
        )
        if set(letters) != set(bad) or any(letters[value] < count for value, count in bad.items()):
            yield f"{topic}: {dict(letters)} in the DLQ, not {dict(bad)}"
        yield from _table_wrong(table, wanted[table], store.final(table))
        if any(row not in wanted[table].get(tuple(row[name] for name in columns), ()) for row in store.tables[table]):
            yield f"{table}: a row that no record says"


def _table_wrong(table: str, wanted: dict[tuple[Any, ...], list[Row]], have: Sequence[Row]) -> Iterator[str]:
    """Each key once, with one of the rows of its highest version."""
    columns, version = KEYS[table]
    keys = [tuple(row[name] for name in columns) for row in have]
    if Counter(keys) != Counter(wanted.keys()):
        yield f"{table}: {len(set(wanted) - set(keys))} of {len(wanted)} rows lost, {len(set(keys) - set(wanted))} unknown"
    for key, row in zip(keys, have, strict=True):
        best = wanted.get(key, [])
        if version is not None and best:
            best = [one for one in best if one[version] == max(other[version] for other in best)]
        if best and row not in best:
            yield f"{table}: {key} is not as the log says"


def _marks_wrong(world: World, store: SimStore, marks: Sequence[Row], seen: dict[Place, int]) -> Iterator[str]:
    """What is told to be complete is: every committed record that was appended before is in its table, or set aside."""
    for mark in marks:
        place: Place = mark["topic"], mark["partition"]
        for offset, entry in world.broker.logs[place].committed():
            if offset < seen.get(place, 0) or entry.at * 1000 >= mark["complete_to"]:
                continue
            if _kept(world, store, place, entry):
                seen[place] = offset + 1
            else:
                yield f"{place} is told to be complete to {mark['complete_to']}, but {offset} is not written"


def _kept(world: World, store: SimStore, place: Place, entry: Entry) -> bool:
    rows = _rows_of(place[0], entry)
    if rows is None:
        return any(one.value == entry.value for number in range(PARTITIONS) for one in world.broker.logs[f"dlq.{place[0]}", number].entries)
    return all(row in store.tables[table] for table, row in rows)
