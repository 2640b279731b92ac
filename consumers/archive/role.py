"""Wires the archiver: the ClickHouse sink and the sinks of other packages, each in a thread with a consumer group of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from threading import Event as Flag

import structlog

from consumers.archive.blocks import Columns
from consumers.archive.clickhouse import EXAMINED, KEPT, ClickHouseSink
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
# What people wait for does not queue behind the rest. By consumer group: its topics, and for how long it rests between writes (see
# `Pace`). Two groups: in one, each lane's start would hold the other up for a rebalance of three seconds.
QUICK = ("findings",)
LANES: dict[str, tuple[tuple[str, ...], float]] = {
    "archiver": (tuple(topic for topic in (*KEPT, *EXAMINED) if topic not in QUICK), 2.0),
    "archiver-findings": (QUICK, 1.0),
}


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set. The ClickHouse sink's failure stops the role; that of another package's sink only this sink."""
    codec = codec_for(settings)
    threads = [
        threading.Thread(target=run_outside, args=(settings, sink, codec, stop), name=sink.name, daemon=True)
        for sink in outside_sinks(settings)
    ]
    for thread in threads:
        thread.start()
    _run_lanes([_lane(settings, codec, group) for group in LANES], stop, ready)
    deadline = time.monotonic() + JOIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _lane(settings: Settings, codec: Codec, group: str) -> Pump:
    topics, rests = LANES[group]
    progress = Progress()
    sink = ClickHouseSink(lambda: connect(settings, writer=True), progress, topics)
    return Pump(settings, sink, group, codec, progress, Columns(codec), rests)


def _run_lanes(lanes: Sequence[Pump], stop: Flag, ready: Ready) -> None:
    """Run all of them until `stop` is set or one fails, which is raised."""
    waiting, failed = set(range(len(lanes))), list[BaseException]()

    def announce(number: int) -> None:
        waiting.discard(number)
        if not waiting:
            ready()

    def work(number: int) -> None:
        try:
            lanes[number].run(stop, lambda: announce(number))
        except BaseException as error:  # noqa: BLE001  raised by the role's own thread, below
            failed.append(error)
            stop.set()

    others = [threading.Thread(target=work, args=(number,), name=f"lane-{number}", daemon=True) for number in range(1, len(lanes))]
    for other in others:
        other.start()
    work(0)
    for other in others:
        other.join(JOIN_SECONDS)
    for error in failed:
        raise error


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
