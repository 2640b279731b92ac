"""The rollups as a role: a Faust app that reads `changes` and `agents` and publishes figures a minute.

One worker: a zone's changes are spread over all partitions, and a figure is of the whole zone. Which samples were counted stands in a Faust
table (its changelog is Faust's own topic), so that a restart goes on with full windows.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from typing import Any

import structlog

from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from processors.faust_engine import CommittedApp, guarded, make_app, run_app, send
from processors.rollup.windows import Sample, Slot, Windows, rollup_key, sample_of
from schemas.codec import Codec
from schemas.ids import partition_of

log = structlog.get_logger()
INPUTS = ("changes", "agents")
FLUSH_SECONDS = 2.0


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set. Raises DriftlineError for what a person must mend."""
    meter = Meter("rollups")

    def announce() -> None:
        meter.ready()
        ready()

    run_app(settings, lambda: build(settings, Codec(), meter), stop, announce, (meter,))


def build(settings: Settings, codec: Codec, meter: Meter) -> CommittedApp:
    """The Faust app: one agent, one table, one timer."""
    app = make_app(settings, "rollups")
    names = {f"{settings.kafka.prefix}{name}": name for name in INPUTS}
    table = app.Table("samples", partitions=settings.kafka.partitions, key_type=bytes, value_type=bytes, **RAW)
    windows = Windows()

    def recovered() -> None:
        windows.open.clear()
        for key, value in table.items():
            windows.add(*from_row(key, value))

    table.on_recover(_awaitable(recovered))

    @app.agent(app.topic(*names, key_type=bytes, value_type=bytes, **RAW), concurrency=1, name="rollups")  # type: ignore[untyped-decorator]
    async def count(stream: Any) -> None:
        async for event in stream.events():
            message = event.message

            async def work(message: Any = message) -> None:
                take(names[message.topic], message)

            await guarded(app, settings, names[message.topic], message, meter, work)

    def take(topic: str, message: Any) -> None:
        if message.value is None:
            return
        recorded = datetime.fromtimestamp(round(message.timestamp * 1000) // 1000, UTC) + timedelta(
            milliseconds=round(message.timestamp * 1000) % 1000
        )
        windows.clock = max(windows.clock, recorded)
        found = sample_of(codec.decode(topic, message.value), recorded)
        if found is not None and windows.add(*found):
            table[row_key(*found)] = row_value(found[1])

    @app.timer(interval=FLUSH_SECONDS)  # type: ignore[untyped-decorator]
    async def publish() -> None:
        topic = f"{settings.kafka.prefix}rollups"
        sent = []
        for rollup in windows.news():
            key = rollup_key(rollup)
            value = codec.encode("rollups", rollup)
            sent.append(await send(app, topic, key.encode(), value, partition_of(key, settings.kafka.partitions)))
        for one in sent:
            await one
        meter.emitted(len(sent))

    return app


RAW = {"key_serializer": "raw", "value_serializer": "raw"}


def _awaitable(call: Any) -> Any:
    async def run_it() -> None:
        call()

    return run_it


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
