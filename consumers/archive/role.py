"""Wires the archiver: the ClickHouse sink and the sinks of other packages, each in a thread with a consumer group of its own."""

from __future__ import annotations

import threading
import time
from threading import Event as Flag

import structlog

from consumers.archive.clickhouse import ClickHouseSink
from consumers.archive.progress import Progress
from consumers.archive.pump import Pump
from consumers.archive.sink import Sink, outside_sinks
from infra.clickhouse.client import connect
from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.deadletters import FuseBlown
from infra.kafka.registry import codec_for
from schemas.codec import Codec

log = structlog.get_logger()
RETRY_SECONDS = (1.0, 30.0)
JOIN_SECONDS = 8.0


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set. The ClickHouse sink's failure stops the role; that of another package's sink only this sink."""
    codec = codec_for(settings)
    threads = [
        threading.Thread(target=run_outside, args=(settings, sink, codec, stop), name=sink.name, daemon=True)
        for sink in outside_sinks(settings)
    ]
    for thread in threads:
        thread.start()
    progress = Progress()
    sink = ClickHouseSink(lambda: connect(settings, writer=True), progress)
    Pump(settings, sink, "archiver", codec, progress).run(stop, ready)
    deadline = time.monotonic() + JOIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def run_outside(settings: Settings, sink: Sink, codec: Codec, stop: Flag) -> None:
    """Run another package's sink until `stop` is set; after an error it is tried again, ever later, and after a blown fuse no more."""
    group = f"sink-{sink.name}"
    meter, (pause, longest) = Meter(group), RETRY_SECONDS
    blown = False
    while not stop.is_set():
        try:
            if not blown:
                Pump(settings, sink, group, codec, Progress()).run(stop, lambda: None)
        except Exception as error:
            blown = isinstance(error, FuseBlown)
            log.error("sink_failed", sink=sink.name, retry_after=None if blown else pause, exc_info=not blown)
            meter.error(f"{type(error).__name__}: {error}")
        meter.beat()
        stop.wait(pause)
        pause = min(2 * pause, longest)
