"""The rollups as a role: a Faust app that reads `changes` and `agents` and publishes figures a minute.

One worker: a zone's changes are spread over all partitions, and a figure is of the whole zone. Which samples were counted stands in a Faust
table (its changelog is Faust's own topic), so that a restart goes on with full windows.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from typing import Any

from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.registry import codec_for
from processors.faust_engine import CommittedApp, caught_up, guarded, make_app, run_app, send
from processors.rollup.windows import EPOCH, Sample, Slot, Windows, late, rollup_key, sample_of
from schemas.codec import Codec
from schemas.ids import partition_of

INPUTS = ("changes", "agents")
FLUSH_SECONDS = 2.0
RAW: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set. Raises DriftlineError for what a person must mend."""
    meter = Meter("rollups")

    def announce() -> None:
        meter.ready()
        ready()

    run_app(settings, lambda: build(settings, codec_for(settings), meter), stop, announce, (meter,))


def build(settings: Settings, codec: Codec, meter: Meter) -> CommittedApp:
    """The Faust app: one agent, one table, one timer."""
    app = make_app(settings, "rollups")
    names = {f"{settings.kafka.prefix}{name}": name for name in INPUTS}
    table = app.Table(
        "samples", changelog_topic=changelog(app, settings), partitions=settings.kafka.partitions, key_type=bytes, value_type=bytes
    )
    counter = Counter(settings, codec, app, table)
    table.on_recover(counter.recover)

    @app.agent(app.topic(*names, **RAW), concurrency=1, name="rollups")  # type: ignore[untyped-decorator]
    async def count(stream: Any) -> None:
        async for event in stream.events():
            await guarded(app, settings, names[event.message.topic], event.message, meter, counter.take)

    @app.timer(interval=FLUSH_SECONDS)  # type: ignore[untyped-decorator]
    async def publish() -> None:
        meter.emitted(await counter.publish())
        await counter.forget()

    return app


def changelog(app: CommittedApp, settings: Settings) -> Any:
    """The table's changelog. Every key is written once, so time cleans it: no window lives longer than a few hours."""
    name = f"{settings.kafka.prefix}rollups-samples-changelog"
    segments = {
        "segment.ms": "3600000",
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(settings.kafka.copies_needed),
    }
    kept = timedelta(hours=3)
    return app.topic(
        name,
        partitions=settings.kafka.partitions,
        retention=kept,
        deleting=True,
        config=segments,
        internal=True,
        acks=False,
        allow_empty=True,
        **RAW,
    )


class Counter:
    """Takes samples into windows and table, and publishes what grew."""

    def __init__(self, settings: Settings, codec: Codec, app: CommittedApp, table: Any) -> None:
        self._settings, self._codec, self._app, self._table = settings, codec, app, table
        self._windows, self._clock = Windows(), EPOCH

    async def recover(self) -> None:
        """Fill the windows from the table. What may still grow is published again: a crash may have come before its figure."""
        self._windows = Windows()
        for key, value in self._table.items():
            self._windows.add(*from_row(key, value))
        now = datetime.now(UTC)
        self._windows.dirty = {slot for slot in self._windows.dirty if not late(slot.window_start, now)}

    async def take(self, topic: str, message: Any) -> None:
        """Count one record."""
        recorded = EPOCH + timedelta(milliseconds=round(message.timestamp * 1000))
        self._clock = max(self._clock, recorded)
        found = sample_of(self._codec.decode(topic, message.value or b""), recorded)
        if found is not None and self._windows.add(*found):
            self._table[row_key(*found)] = row_value(found[1])

    async def publish(self) -> int:
        """Publish the figures that changed; how many."""
        topic, partitions = f"{self._settings.kafka.prefix}rollups", self._settings.kafka.partitions
        sent = []
        for rollup in self._windows.news():
            key = rollup_key(rollup)
            sent.append(await send(self._app, topic, key.encode(), self._codec.encode("rollups", rollup), partition_of(key, partitions)))
        for one in sent:
            await one
        return len(sent)

    async def forget(self) -> None:
        """Drop the windows that are closed for good; not while records wait, of which some may belong to them."""
        if self._windows.oldest() is None or not late(self._windows.oldest() or EPOCH, self._clock) or not await caught_up(self._app):
            return
        for slot, sample in self._windows.close(self._clock):
            self._table.data.pop(row_key(slot, sample), None)  # past the table: its changelog is cleaned by time


def row_key(slot: Slot, sample: Sample) -> bytes:
    """A sample's key in the table."""
    return json.dumps([slot.source, slot.zone, slot.window_start.isoformat(), sample.sample_id]).encode()


def row_value(sample: Sample) -> bytes:
    """What is kept of a sample."""
    return json.dumps([sample.kind, sample.delay_ms]).encode()


def from_row(key: bytes, value: bytes) -> tuple[Slot, Sample]:
    """A sample as it was kept."""
    source, zone, start, sample_id = json.loads(key)
    kind, delay = json.loads(value)
    moment = datetime.fromisoformat(start)
    return Slot(source, zone, moment), Sample(zone, kind, moment, sample_id, delay)
