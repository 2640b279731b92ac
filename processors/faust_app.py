"""The pipeline's steps as Faust agents over Faust tables, for teams that run Faust. `python -m processors.faust_app differ` runs one.

The same step as in the transactional loop, with weaker promises: at least once. A record's outputs are on the broker before its state
is written, so that a crash between the two repeats outputs with equal ids and loses none. One agent reads all inputs of a step, one
record at a time. The topic of the state is the same as the loop's; run one engine or the other on a prefix, not both.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event as Flag
from types import FrameType
from typing import Any

from infra.core.errors import BadInput
from infra.core.ports import Context, Emit, FixedTables, Ready, Record, Step, StepPlan
from infra.core.settings import Settings, load_settings
from infra.core.telemetry import Meter
from infra.kafka.registry import codec_for
from infra.kafka.timestamps import EPOCH
from processors.diff import role as diff
from processors.faust_engine import CommittedApp, guarded, make_app, run_app, send
from schemas.codec import Codec
from schemas.ids import partition_of, subnet_key, subnet_of
from schemas.topics import topic_named

StepRole = tuple[StepPlan, Callable[[Settings, Codec], Step]]
STEPS: dict[str, StepRole] = {"differ": (diff.PLAN, diff.make_step)}


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
    worker = StepWorker(settings, make_step(settings, codec), codec, app, table)
    inputs = app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True)

    @app.agent(inputs, concurrency=1, name=role)  # type: ignore[untyped-decorator]
    async def step(stream: Any) -> None:
        async for event in stream.events():
            await guarded(app, settings, names[event.message.topic], event.message, meter, worker.handle)

    return app


class StepWorker:
    """Handles one record: decode, step, outputs, then state."""

    def __init__(self, settings: Settings, step: Step, codec: Codec, app: CommittedApp, table: Any) -> None:
        self._settings, self._step, self._codec, self._app, self._table = settings, step, codec, app, table

    async def handle(self, topic: str, message: Any) -> None:
        """Handle one record. Raises Poison or UndecodableError for a bad one, which leaves no trace in state or outputs."""
        event = None if message.value is None else self._codec.decode(topic, message.value)
        recorded = EPOCH + timedelta(milliseconds=round(message.timestamp * 1000))
        partitions = self._settings.kafka.partitions
        state = TableState(self._table, message.partition, partitions)
        key = (message.key or b"").decode("utf-8", "replace")
        record = Record(topic, message.partition, message.offset, recorded, key, event)
        outputs = list(self._step.handle(record, Context(message.partition, partitions, state, FixedTables())))
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
    """A step's state over a Faust table, which holds all partitions of the worker: this one sees the assets of one partition only.

    Writes wait in `batch` until `keep`.
    """

    def __init__(self, table: Any, partition: int, partitions: int) -> None:
        self._table, self._partition, self._partitions = table, partition, partitions
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
        """Keys of this partition with this prefix and their values, in the order of the keys."""
        stored = (key.decode() for key in self._table)
        for key in sorted({*stored, *self._batch}):
            if key.startswith(prefix) and home_of(key, self._partitions) == self._partition:
                value = self.get(key)
                if value is not None:
                    yield key, value

    def keep(self) -> None:
        """Write what was put; Faust puts it on the changelog before it commits the record's offset."""
        for key, value in self._batch.items():
            if value is None:
                self._table.pop(key.encode(), None)
            else:
                self._table[key.encode()] = value


def home_of(asset: str, partitions: int) -> int:
    """The partition that an asset's key belongs to: its subnet's."""
    zone, _, address = asset.rpartition("|")
    return partition_of(subnet_key(zone, subnet_of(address)), partitions)


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
