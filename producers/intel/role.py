"""The role `intel`: syncs the feeds that are switched on, at once and then again and again. With none switched on it only waits.

Each round runs in a process of its own, whose memory (a few hundred MB of records) is given back at its end, and which no other role of
this process has to wait for. One that is killed has written nothing, or all.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from threading import Event as Flag
from typing import Any

import structlog

from infra.core.errors import DriftlineError
from infra.core.logs import configure_logs
from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.core.telemetry import TELEMETRY, Meter

log = structlog.get_logger()
WAKE_SECONDS = 1.0
AGAIN_SECONDS = 60.0
"""When to try again after a round that failed as a whole: Kafka was away."""
Told = list[dict[str, Any]]
"""What came of each source: feed, as_of (seconds since 1970), read, written, problem."""


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set. Raises BadInput for a feed's URL that is wrong."""
    if settings.intel.feeds:
        from producers.intel.sources import configured  # a process that fetches nothing imports nothing

        configured(settings)
    meter, due = Meter("intel"), time.monotonic()
    meter.ready()
    ready()
    while not stop.wait(WAKE_SECONDS):
        meter.beat()
        if settings.intel.feeds and time.monotonic() >= due:
            done = _round(settings, stop, meter)
            due = time.monotonic() + (settings.intel.every_minutes * 60 if done else AGAIN_SECONDS)


def _round(settings: Settings, stop: Flag, meter: Meter) -> bool:
    """One round in a process of its own. False if it failed as a whole."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_sync, args=(settings.model_dump(), theirs), name="intel-sync", daemon=True)
    process.start()
    theirs.close()
    found: Told | str = "it was ended"
    try:
        while not stop.is_set():
            meter.beat()
            if ours.poll(WAKE_SECONDS):
                found = ours.recv()
                break
    except EOFError:
        found = f"the process ended with {process.exitcode}"
    finally:
        ours.close()
        process.join(0 if stop.is_set() else 10.0)
        if process.is_alive():
            process.kill()
            process.join(5.0)
    if isinstance(found, str):
        if not stop.is_set():
            log.warning("feeds_not_synced", reason=found)
            meter.error(found)
        return False
    for one in found:
        _tell(one, meter)
    return True


def _tell(one: dict[str, Any], meter: Meter) -> None:
    if one["problem"]:
        meter.discarded("decode")
        meter.error(f"{one['feed']}: {one['problem']}")
        log.error("feed_not_taken", **one)
        return
    meter.received(one["read"])
    meter.emitted(one["written"])
    if one["as_of"] is not None:
        TELEMETRY.feeds.labels(one["feed"]).set(one["as_of"])
    log.info("feed_synced", **one)


def _sync(plain: dict[str, Any], answer: Connection) -> None:
    """The round itself."""
    from datetime import UTC, datetime

    from infra.core.settings import load_settings
    from infra.kafka.registry import codec_for
    from producers.intel.sources import configured
    from producers.intel.syncing import sync

    settings = load_settings(**plain)
    configure_logs(settings.telemetry, roles="intel")
    try:
        outcomes = sync(settings, codec_for(settings), configured(settings), datetime.now(UTC))
    except DriftlineError as error:
        answer.send(str(error))
        return
    answer.send(
        [
            {
                "feed": one.source.feed,
                "as_of": one.as_of.timestamp() if one.as_of else None,
                "read": one.statements,
                "written": one.written + one.withdrawn,
                "problem": one.problem,
            }
            for one in outcomes
        ]
    )
