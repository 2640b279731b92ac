"""Wires the archiver: the ClickHouse sink and the sinks of other packages, each in a thread with a consumer group of its own."""

from __future__ import annotations

import threading
from threading import Event as Flag

import structlog

from consumers.archive.clickhouse import ClickHouseSink
from consumers.archive.pump import Pump
from consumers.archive.sink import Sink, outside_sinks
from infra.clickhouse.client import connect
from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.kafka.registry import codec_for
from schemas.codec import Codec

log = structlog.get_logger()


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set. A sink of another package that fails stops alone; the ClickHouse sink's failure stops the role."""
    codec = codec_for(settings)
    extra = [threading.Thread(target=_run_outside, args=(settings, sink, codec, stop), daemon=True) for sink in outside_sinks(settings)]
    for thread in extra:
        thread.start()
    pumps: list[Pump] = []
    sink = ClickHouseSink(lambda: connect(settings, writer=True), lambda: pumps[0].positions())
    pumps.append(Pump(settings, sink, "archiver", codec))
    pumps[0].run(stop, ready)
    for thread in extra:
        thread.join(10.0)


def _run_outside(settings: Settings, sink: Sink, codec: Codec, stop: Flag) -> None:

    try:
        Pump(settings, sink, f"sink-{sink.name}", codec).run(stop, lambda: None)
    except Exception:
        log.exception("sink_stopped", sink=sink.name)
