"""The scheduler on the real broker: each slot fires once, whoever dies; ticks reach every partition."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from infra.core.clock import SteadyClock, utc_now
from infra.core.settings import KafkaSettings, SchedulerSettings, Settings
from infra.kafka.client import Publisher, producer_config, read_whole, value_of
from infra.kafka.timestamps import recorded_at
from infra.kafka.topics import TopicAdmin
from producers.auditing import Actor
from producers.campaigns.running import CampaignForm, Office, create_campaign, steer_campaign
from producers.scheduler import role
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.operations import Tick
from schemas.events.targets import Cadence, CadenceKind, Campaign, TargetRequest

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    made = Settings(
        data_dir=tmp_path,
        kafka=KafkaSettings(bootstrap=kafka, prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=3),
        scheduler=SchedulerSettings(tick_seconds=1),
    )
    TopicAdmin(made).apply()
    return made


@contextmanager
def running(settings: Settings, clock: SteadyClock | None = None) -> Iterator[None]:
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=role.run, args=(settings, stop, ready.set, clock))
    thread.start()
    try:
        assert ready.wait(40)
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.1)


def events(settings: Settings, topic: str) -> list[Event]:
    found: list[Event] = []
    read_whole(settings, topic, lambda message: found.append(Codec().decode(topic, value_of(message) or b"")))
    return found


def requests(settings: Settings) -> list[TargetRequest]:
    return [one for one in events(settings, "targets") if isinstance(one, TargetRequest)]


def create(settings: Settings, name: str, cadence: Cadence) -> Office:
    publisher = Publisher(settings, Codec())
    kept: dict[str, Campaign] = {}
    office = Office(Actor("alice", "here"), settings.zones, kept, publisher.publish)
    kept[name] = create_campaign(CampaignForm(name, ("198.18.0.0/24",), cadence), office, datetime.now(UTC))
    publisher.flush()
    return office


ONCE = Cadence(kind=CadenceKind.ONCE)


def test_once_is_once_through_restarts_and_again_when_started(settings: Settings) -> None:
    office = create(settings, "lab", ONCE)
    with running(settings):
        until(lambda: len(requests(settings)) == 1)
    with running(settings):
        ticks = len(events(settings, "ticks"))
        until(lambda: len(events(settings, "ticks")) >= ticks + 6)
        assert len(requests(settings)) == 1
        publisher = Publisher(settings, Codec())
        steer_campaign("lab", "start", Office(office.actor, office.zones, office.campaigns, publisher.publish), datetime.now(UTC))
        publisher.flush()
        until(lambda: len(requests(settings)) == 2)
    one, two = requests(settings)
    assert one.request_id != two.request_id
    assert (one.campaign_id, one.targets) == (two.campaign_id, two.targets) == ("lab", ("198.18.0.0/24",))


def test_every_partition_gets_each_tick_once(settings: Settings) -> None:
    with running(settings):
        until(lambda: len(events(settings, "ticks")) >= 9)
    seen = Counter((one.partition, one.minute) for one in events(settings, "ticks") if isinstance(one, Tick))
    assert set(seen.values()) == {1}
    minutes = {minute for _, minute in seen}
    assert set(seen) == {(partition, minute) for partition in range(3) for minute in minutes}
    partitions: list[bool] = []
    read_whole(settings, "ticks", lambda message: partitions.append(message.key() == str(message.partition()).encode()))
    assert all(partitions)


def test_a_clock_that_jumps_an_hour_neither_stops_the_ticks_nor_runs_ahead(settings: Settings) -> None:
    jumped = timedelta(0)
    with running(settings, SteadyClock(lambda: utc_now() + jumped)):
        for jumped in (timedelta(0), timedelta(hours=1), timedelta(hours=-1)):  # noqa: B007  the clock reads it
            ticks = len(events(settings, "ticks"))
            until(lambda ticks=ticks: len(events(settings, "ticks")) > ticks + 3)  # type: ignore[misc]
    seen: list[tuple[datetime, datetime]] = []

    def take(message: Message) -> None:
        tick = Codec().decode("ticks", value_of(message) or b"")
        if isinstance(tick, Tick) and tick.partition == 0:
            seen.append((tick.minute, recorded_at(message)))

    read_whole(settings, "ticks", take)
    assert all(timedelta(seconds=-5) < recorded - minute < timedelta(seconds=20) for minute, recorded in seen), seen
    assert seen == sorted(seen)


def child(settings: Settings) -> None:
    role.run(settings, threading.Event(), lambda: None)


@pytest.mark.long
def test_killed_at_any_moment_no_slot_fires_twice_and_none_is_lost(settings: Settings) -> None:
    create(settings, "often", Cadence(kind=CadenceKind.CONTINUOUS, every_seconds=1))
    create(settings, "lab", ONCE)
    context = multiprocessing.get_context("spawn")
    for round_number in range(2):
        before = len(requests(settings))
        workers = [context.Process(target=child, args=(settings.model_copy(update={"slot": slot}),)) for slot in (0, 1)]
        for worker in workers:
            worker.start()
        try:
            until(lambda before=before: len(requests(settings)) >= before + 3)  # type: ignore[misc]
        finally:
            for worker in workers:
                os.kill(worker.pid or 0, signal.SIGKILL)
                worker.join(10)
        assert round_number < 2
    found = Counter(one.request_id for one in requests(settings))
    assert set(found.values()) == {1}
    assert sum(one.campaign_id == "lab" for one in requests(settings)) == 1


def test_a_successor_takes_over_when_the_active_one_leaves(settings: Settings) -> None:
    create(settings, "lab", ONCE)
    with running(settings):
        until(lambda: len(requests(settings)) == 1)
        with running(settings.model_copy(update={"slot": 1})):
            pass
        create(settings, "other", ONCE)
        until(lambda: len(requests(settings)) == 2)


def test_a_bad_campaign_is_set_aside_once_and_blocks_nothing(settings: Settings) -> None:
    producer = Producer(producer_config(settings))
    topic = f"{settings.kafka.prefix}campaigns"
    producer.produce(topic, b"\xff\xfe", b"bad", 0)
    wrong = Campaign(
        campaign_id="wrong",
        targets=("198.18.0.7",),
        cadence=Cadence(kind=CadenceKind.CRON, cron="x"),
        changed_by="a",
        changed_at=datetime.now(UTC),
    )
    producer.produce(topic, Codec().encode("campaigns", wrong), b"wrong", 0)
    producer.produce(topic, Codec().encode("campaigns", wrong), b"another key", 0)
    assert producer.flush(20) == 0
    create(settings, "lab", ONCE)
    for _ in range(2):
        with running(settings):
            until(lambda: len(requests(settings)) == 1)
            ticks = len(events(settings, "ticks"))
            until(lambda ticks=ticks: len(events(settings, "ticks")) > ticks)  # type: ignore[misc]
    dead: list[Message] = []
    read_whole(settings, "dlq.campaigns", dead.append)
    assert [one.key() for one in dead] == [b"bad", b"wrong", b"another key"]
