"""Faust made fit for Driftline: an app that reads committed records only, loses none, opens no port, and runs in any thread.

What is mended here, each with a test:
  - outside its exactly-once mode Faust reads records of aborted transactions: consumers are made with `read_committed`;
  - Faust takes a gap in the offsets (a transaction's marker) for acknowledged together with the record behind it, which is still in flight,
    and never passes a gap right after offset 0: with one stream and no concurrency acks come in order, so the highest one is what counts;
  - after it recovered its tables Faust lets records in, then seeks back to the committed offsets, then empties its queues: what was in
    them is lost, and so it is wherever nothing was committed yet. Partitions are let in last, and a new group seeks to the beginning;
  - a topic that is so new that the client has not heard of it counts as one without partitions, and the app ends: as unknown here;
  - an agent that raises acks its record: bodies go through `guarded`, which puts the record on its DLQ first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from threading import Event as Flag
from typing import Any

import faust
import structlog
from faust.transport.drivers import aiokafka as driver

from infra.core.errors import DriftlineError, MissingPrerequisite, Poison
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.login import client_context, login
from schemas.codec import UndecodableError

log = structlog.get_logger()
FETCH_WAIT_MS = 3000
CODE_VERSION = version("driftline")


class CommittedThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Makes the consumer with `read_committed`, and goes back to the beginning where nothing was committed yet."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001  read when it starts; Faust offers no setting
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        return consumer

    def topic_partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None while that is not known. Faust has 0 for it then, and takes a new changelog for wrong."""
        return super().topic_partitions(topic) or None

    async def seek_to_committed(self) -> Any:
        """Seek to the committed offsets, or to the beginning."""
        found = await super().seek_to_committed()
        fresh = [tp for tp, offset in found.items() if not offset and self.app.topics.acks_enabled_for(tp.topic)]
        if fresh:
            await self.seek_to_beginning(*fresh)
        return found


class CommittedConsumer(driver.Consumer):  # type: ignore[misc]
    """Commits the highest acknowledged offset; right because each app has one stream that works one record at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._let_in: set[Any] = set()

    def pause_partitions(self, tps: Any) -> None:
        """Fetch nothing from these partitions."""
        self._let_in.difference_update(tps)
        super().pause_partitions(tps)

    def resume_partitions(self, tps: Any) -> None:
        """Fetch from these partitions once the flow is resumed, not before: until then Faust drops what comes in."""
        self._let_in.update(tps)

    def resume_flow(self) -> None:
        """Let records in."""
        super().resume_partitions(self._let_in)
        self._let_in = set()
        super().resume_flow()

    def _new_consumer_thread(self) -> CommittedThread:
        return CommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Gaps need no bookkeeping here."""

    def _new_offset(self, tp: Any) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        top: int = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return top + 1


class CommittedTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the consumer above."""

    Consumer = CommittedConsumer


class CommittedApp(faust.App):  # type: ignore[misc]
    """A Faust app over that transport."""

    def _new_transport(self) -> CommittedTransport:
        return CommittedTransport(self.conf.broker_consumer, self)


def make_app(settings: Settings, role: str) -> CommittedApp:
    """An app for a role: prefix before its group and changelogs, raw bytes, no web server, no leader topic, quiet at rest."""
    return CommittedApp(
        f"{settings.kafka.prefix}{role}",
        broker=[f"kafka://{address.strip()}" for address in settings.bootstrap.split(",")],
        broker_credentials=credentials(settings),
        broker_commit_interval=2.0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        consumer_auto_offset_reset="earliest",
        datadir=str(settings.data_dir / "faust" / role),
        key_serializer="raw",
        value_serializer="raw",
        processing_guarantee="at_least_once",
        producer_acks=-1,
        producer_linger=0,
        reply_create_topic=False,
        store="memory://",
        stream_wait_empty=False,
        topic_disable_leader=True,
        topic_partitions=settings.kafka.partitions,
        topic_replication_factor=settings.kafka.replication,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )


def credentials(settings: Settings) -> Any:
    """What the cluster wants to see, as Faust takes it; None for plain text."""
    who = login(settings)
    context = client_context(settings) if who.encrypted else None
    if who.sasl:
        return faust.SASLCredentials(mechanism=who.mechanism, username=who.username, password=who.password, ssl_context=context)
    return faust.SSLCredentials(context) if context else None


async def send(app: CommittedApp, topic: str, key: bytes, value: bytes | None, partition: int, headers: Any = None) -> Awaitable[Any]:
    """Hand a record to the producer; the returned awaitable is done when the broker has it."""
    found: Awaitable[Any] = await app.producer.send(topic, key, value, partition, None, headers or [])
    return found


async def caught_up(app: CommittedApp) -> bool:
    """Whether all that is in the app's topics now has been handled."""
    if app.consumer.unacked:
        return False
    for tp in app.consumer.assignment():
        high = app.consumer.highwater(tp)
        if app.topics.acks_enabled_for(tp.topic) and high is not None and (await app.consumer.position(tp) or 0) < high:
            return False
    return True


async def guarded(
    app: CommittedApp, settings: Settings, topic: str, message: Any, meter: Meter, work: Callable[[str, Any], Awaitable[None]]
) -> None:
    """Do the work for one record. A bad record goes to its DLQ before Faust may acknowledge it; any other error stops the app, loudly."""
    meter.beat()
    meter.received()
    try:
        await work(topic, message)
    except (Poison, UndecodableError) as error:
        headers = [
            ("source.topic", topic.encode()),
            ("source.partition", str(message.partition).encode()),
            ("source.offset", str(message.offset).encode()),
            ("error.class", type(error).__name__.encode()),
            ("error.reason", str(error)[:2000].encode()),
            ("code.version", CODE_VERSION.encode()),
        ]
        done = await send(app, f"{settings.kafka.prefix}dlq.{topic}", message.key, message.value, message.partition, headers)
        await done
        meter.discarded("decode" if isinstance(error, UndecodableError) else "handle")
        meter.error(str(error))
        log.warning("record_set_aside", topic=topic, partition=message.partition, offset=message.offset, reason=str(error))
    except Exception as error:
        # Faust would acknowledge the record and go on. Without an acknowledgement it is read again after the restart.
        log.exception("record_failed", topic=topic, partition=message.partition, offset=message.offset)
        meter.error(str(error))
        app.failure = error
        app.broken.set()
        await asyncio.Event().wait()


def run_app(
    settings: Settings, make: Callable[[], CommittedApp], stop: Flag, ready: Callable[[], None], beats: Sequence[Meter] = ()
) -> None:
    """Run an app in this thread until `stop` is set. Raises DriftlineError if it can't start or breaks."""
    asyncio.run(_serve(settings, make, stop, ready, beats))


async def _serve(
    settings: Settings, make: Callable[[], CommittedApp], stop: Flag, ready: Callable[[], None], beats: Sequence[Meter]
) -> None:
    app = make()
    app.broken, app.failure = asyncio.Event(), None
    app.finalize()
    app.conf.datadir.mkdir(parents=True, exist_ok=True)
    try:
        await asyncio.wait_for(app.start(), 60)
    except Exception as error:
        raise MissingPrerequisite(
            f"Kafka at {settings.bootstrap} does not answer ({error}).",
            "Start it with 'driftline up', or name another with DRIFTLINE_KAFKA__BOOTSTRAP.",
        ) from error
    announced = False
    while not stop.is_set() and not app.broken.is_set() and not app.crashed:
        await asyncio.sleep(0.5)
        for meter in beats:
            meter.beat()
        if not announced and app.consumer.assignment() and not app.rebalancing and app.tables.recovery.completed.is_set():
            announced = True
            ready()
    await asyncio.wait_for(app.stop(), 30)
    if not stop.is_set():
        raise DriftlineError(f"The Faust app {app.conf.id} stopped: {app.failure or app.crash_reason}.", "See the log before this.")
