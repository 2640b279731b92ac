"""An archiver for tests: the real role in a thread, against a real broker and store, and what tests ask of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from consumers.archive import clickhouse, role
from infra.core.settings import ArchiverSettings, KafkaSettings, Settings, load_settings
from infra.kafka.client import Publisher, consumer_config, prefixed, read_whole
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from schemas.events.base import Event
from tests.stores import RunningStore

PARTITIONS = 3


def archiver_settings(kafka: str, store: RunningStore, prefix: str, data_dir: Path | None = None) -> Settings:
    """Settings for an archiver with topics of its own (made here) in front of this store."""
    settings = load_settings(
        data_dir=data_dir or store.settings.data_dir,
        store=store.settings.store,
        kafka=KafkaSettings(bootstrap=kafka, prefix=f"{prefix}.", partitions=PARTITIONS),
        archiver=ArchiverSettings(batch_rows=2000),
    )
    TopicAdmin(settings).apply()
    return settings


@dataclass(slots=True)
class Archiver:
    """The role in its thread."""

    settings: Settings
    stop: threading.Event = field(default_factory=threading.Event)
    ready: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def run(self) -> None:
        try:
            role.run(self.settings, self.stop, self.ready.set)
        except BaseException as error:  # noqa: BLE001  the test that runs it decides
            self.error = error
            self.ready.set()


@contextmanager
def archiving(settings: Settings) -> Iterator[Archiver]:
    """Run the archiver; afterwards stop it, and fail if it failed."""
    archiver = Archiver(settings)
    thread = threading.Thread(target=archiver.run, name="archiver", daemon=True)
    thread.start()
    try:
        assert archiver.ready.wait(30)
        yield archiver
    finally:
        archiver.stop.set()
        thread.join(30)
        assert not thread.is_alive()
    if archiver.error is not None:
        raise archiver.error


def publish(settings: Settings, *events: tuple[str, str, Event]) -> None:
    """Publish (topic, key, event) one after the other and wait until Kafka has them."""
    publisher = Publisher(settings, Codec())
    for topic, key, event in events:
        publisher.publish(topic, key, event)
    publisher.flush()


def until(condition: Callable[[], object], what: str, seconds: float = 45.0) -> None:
    """Wait for a condition; fail with `what` if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def caught_up(settings: Settings, groups: dict[str, tuple[str, ...]] | None = None) -> bool:
    """Whether these groups (the archiver's, if none is named) have committed all of their topics (but the marker of a last transaction)."""
    wanted = groups or {group: tuple(one for one in topics if one in clickhouse.KEPT) for group, (topics, _) in role.LANES.items()}
    return all(_has_committed(settings, group, topics) for group, topics in wanted.items())


def _has_committed(settings: Settings, group: str, topics: tuple[str, ...]) -> bool:
    consumer = Consumer(consumer_config(settings, group))
    try:
        places = [TopicPartition(prefixed(settings, topic), number) for topic in topics for number in range(PARTITIONS)]
        ends = {(one.topic, one.partition): consumer.get_watermark_offsets(one, 10.0)[1] for one in places}
        return all(max(one.offset, 0) >= ends[one.topic, one.partition] for one in consumer.committed(places, 10.0))
    except KafkaException:  # a topic that was made a moment ago may have no leader yet
        return False
    finally:
        consumer.close()


def dead_letters(settings: Settings, topic: str) -> list[Message]:
    """What lies on a topic's DLQ."""
    found: list[Message] = []
    read_whole(settings, f"dlq.{topic}", found.append)
    return found


def header(message: Message, name: str) -> str:
    """A header of a dead letter."""
    return dict(cast("list[tuple[str, bytes]]", message.headers()))[name].decode()
