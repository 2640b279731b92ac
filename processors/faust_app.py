"""The pipeline's steps as Faust agents over Faust tables, for teams that run Faust. `python -m processors.faust_app differ` runs one.

The same step as in the transactional loop, with weaker promises: at least once. A record's outputs are on the broker before its state
is written, so that a crash between the two repeats outputs with equal ids and loses none. One agent reads all inputs of a step, one
record at a time. What changes in a global table reaches a partition with its next record, a tick at the latest. The topic of the
state is the same as the loop's; run one engine or the other on a prefix, not both.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event as Flag
from types import FrameType
from typing import Any

import structlog

from infra.core.errors import BadInput, Poison
from infra.core.ports import Context, Emit, Glancing, Ready, Record, Step, StepPlan
from infra.core.settings import Settings, load_settings
from infra.core.telemetry import Meter
from infra.kafka.globaltables import GlobalTables, applied_key
from infra.kafka.registry import codec_for
from infra.kafka.timestamps import EPOCH
from processors.correlate import role as correlate
from processors.diff import role as diff
from processors.faust_engine import CommittedApp, guarded, make_app, run_app, send
from processors.faust_store import partitioned
from schemas.codec import Codec
from schemas.ids import partition_of
from schemas.topics import topic_named

StepRole = tuple[StepPlan, Callable[[Settings, Codec], Step]]
STEPS: dict[str, StepRole] = {"differ": (diff.PLAN, diff.make_step), "correlator": (correlate.PLAN, correlate.make_step)}
log = structlog.get_logger()


def run(settings: Settings, role: str, stop: Flag, ready: Ready) -> None:
    """Run a step on Faust until `stop` is set. Raises DriftlineError for what a person must mend."""
    meter = Meter(role)
    run_app(settings, lambda: build(settings, role, codec_for(settings), meter), stop, ready, (meter,))


def build(settings: Settings, role: str, codec: Codec, meter: Meter) -> CommittedApp:
    """The Faust app of one step: one agent over its inputs, one table for its state. Raises BadInput for a step that can't run on Faust."""
    if role not in STEPS:
        raise BadInput(f"The step '{role}' does not run on Faust.", f"These do: {', '.join(STEPS)}.")
    plan, make_step = STEPS[role]
    app = make_app(settings, role)
    names = {f"{settings.kafka.prefix}{name}": name for name in plan.inputs}
    table = app.Table(
        role,
        key_type=bytes,
        value_type=bytes,
        partitions=settings.kafka.partitions,
        store=partitioned(),
        changelog_topic=app.topic(
            f"{settings.kafka.prefix}{plan.changelog}",
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=settings.kafka.partitions,
            acks=False,
            allow_empty=True,
        ),
    )
    worker = StepWorker(settings, plan, make_step(settings, codec), codec, app, table)
    inputs = app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True)

    @app.agent(inputs, concurrency=1, name=role)  # type: ignore[untyped-decorator]
    async def step(stream: Any) -> None:
        async for event in stream.events():
            await guarded(app, settings, names[event.message.topic], event.message, meter, worker.handle)

    return app


class StepWorker:
    """Handles one record: news of the global tables first, then decode, step, outputs, and state."""

    def __init__(self, settings: Settings, plan: StepPlan, step: Step, codec: Codec, app: CommittedApp, table: Any) -> None:
        self._settings, self._plan, self._step, self._codec, self._app, self._table = settings, plan, step, codec, app, table
        topics = tuple(dict.fromkeys((*plan.global_tables, *plan.global_inputs)))
        self._tables = GlobalTables(settings, topics, codec, plan.global_inputs)
        self._tables.load()

    async def handle(self, topic: str, message: Any) -> None:
        """Handle one record. Raises Poison or UndecodableError for a bad one, which leaves no trace in state or outputs."""
        await self._apply_news(message.partition)
        value, state = message.value, TableState(self._table)
        if value is not None and isinstance(self._step, Glancing) and self._step.changes_nothing(topic, value, state):
            return
        event = plain = None
        if value is not None and self._plan.plain:
            plain = self._codec.read(topic, value)
        elif value is not None:
            event = self._codec.decode(topic, value)
        recorded = EPOCH + timedelta(milliseconds=round(message.timestamp * 1000))
        key = (message.key or b"").decode("utf-8", "replace")
        record = Record(topic, message.partition, message.offset, recorded, key, event, value or b"", plain)
        await self._produce(message.partition, record, state)

    async def _apply_news(self, partition: int) -> None:
        """Hand this partition the records of the global inputs that it has not had yet: here that waits for its next record or tick."""
        self._tables.poll()
        for topic in self._plan.global_inputs:
            done, news = int(TableState(self._table).get(applied_key(topic)) or 0), self._tables.next_offset(topic)
            for record in self._tables.since(topic, done) if done < news else ():
                try:
                    await self._produce(partition, record, TableState(self._table))
                except Poison as error:
                    log.error("table_record_not_applied", topic=topic, offset=record.offset, partition=partition, reason=error.reason)
            if done < news:
                self._table[applied_key(topic).encode()] = str(news).encode()

    async def _produce(self, partition: int, record: Record, state: TableState) -> None:
        outputs = list(self._step.handle(record, Context(partition, self._settings.kafka.partitions, state, self._tables)))
        sent = [await self._send(one) for one in outputs]
        for one in sent:
            await one
        state.keep()

    async def _send(self, emit: Emit) -> Any:
        value = emit.raw if emit.event is None else self._codec.encode(emit.topic, emit.event)
        partition = emit.partition
        if partition is None:
            count = topic_named(emit.topic).partitions(self._settings.kafka.partitions)
            partition = partition_of(emit.route or emit.key, count)
        return await send(self._app, f"{self._settings.kafka.prefix}{emit.topic}", emit.key.encode(), value, partition)


class TableState:
    """A step's state over a Faust table that keeps partitions apart. Writes wait in `batch` until `keep`."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._batch: dict[str, bytes | None] = {}

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        if key in self._batch:
            return self._batch[key]
        value: bytes | None = self._table.get(key.encode())
        return value

    def put(self, key: str, value: bytes) -> None:
        """Set the value."""
        self._batch[key] = value

    def delete(self, key: str) -> None:
        """Forget the key."""
        self._batch[key] = None

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Keys with this prefix and their values, in the order of the keys."""
        stored = (key.decode() for key in self._table)
        for key in sorted({*stored, *self._batch}):
            value = self.get(key) if key.startswith(prefix) else None
            if value is not None:
                yield key, value

    def keep(self) -> None:
        """Write what was put; Faust puts it on the changelog before it commits the record's offset."""
        for key, value in self._batch.items():
            if value is None:
                self._table.pop(key.encode(), None)
            else:
                self._table[key.encode()] = value


def main(arguments: list[str]) -> None:
    """Run the step that is named, until SIGTERM or SIGINT."""
    stop = Flag()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    run(load_settings(), arguments[0] if arguments else "differ", stop, lambda: print("ready", file=sys.stderr, flush=True))


if __name__ == "__main__":
    main(sys.argv[1:])
