"""Kills, pauses, a broker that dies and a group that never rests, on a real Kafka: every record still has exactly one effect.

The oracle reads the log anew from offset 0 as any reader of committed records does; it knows nothing of offsets or counts.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import producer_config, transactional_producer
from infra.kafka.topics import TopicAdmin
from infra.local.broker import Broker
from tests.brokers import broker_settings
from tests.fault.storm import Crew, InfrastructureError, feed, finished, log_of, must_fail, standing, tormenting, until, wrong

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
PARTITIONS, WORKERS = 11, 3


@dataclass(slots=True)
class Site:
    """A broker of the test's own and settings for its clients."""

    broker: Broker
    settings: Settings


@contextmanager
def site_in(folder: Path) -> Iterator[Site]:
    made = broker_settings(folder)
    with Broker(made) as broker:
        bootstrap = broker.start(timeout=90)
        settings = made.model_copy(update={"kafka": KafkaSettings(bootstrap=bootstrap, partitions=PARTITIONS)})
        TopicAdmin(settings).apply()
        yield Site(broker, settings)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done in a storm."""

    records: int
    kills: int
    broker_kills: int
    broker_pauses: int


SHORT, WHOLE = Size(12_000, 5, 1, 1), Size(100_000, 30, 5, 5)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("size", [pytest.param(SHORT, id="short"), pytest.param(WHOLE, id="whole", marks=pytest.mark.long)])
def test_kills_of_workers_and_of_the_broker_change_nothing(tmp_path: Path, size: Size) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    left = {"kills": size.kills, "broker_kills": size.broker_kills, "broker_pauses": size.broker_pauses}
    with site_in(tmp_path) as site, Crew(site.settings, WORKERS) as crew:
        torments = [name for name, times in left.items() for _ in range(times)]
        random.Random(seed).shuffle(torments)  # noqa: S311
        plan = iter(torments)

        def torment(luck: random.Random) -> None:
            name = next(plan)
            if name == "kills":
                crew.end(luck.randrange(WORKERS), signal.SIGKILL)
            elif site.broker.pid is not None and name == "broker_kills":
                os.kill(site.broker.pid, signal.SIGKILL)
                until(lambda: site.broker.poll() is not None, 20, "the broker to be dead")
                site.broker.start(timeout=180)
            elif site.broker.pid is not None:
                os.kill(site.broker.pid, signal.SIGSTOP)
                time.sleep(luck.uniform(0.5, 4.0))
                os.kill(site.broker.pid, signal.SIGCONT)

        begun = time.monotonic()
        with tormenting(torment, seed, (0.1, 1.0)) as over:
            kinds: dict[str, int] = {}
            for part in range(10):  # not all at once, so that all is in flight while it happens
                for kind, count in feed(site.settings, size.records // 10, seed + part).items():
                    kinds[kind] = kinds.get(kind, 0) + count
            until(over.is_set, 600, "the torments to be over")
        try:
            until(lambda: finished(site.settings), 240, "all records to be consumed")
        except InfrastructureError:
            print(standing(site.settings))
            raise
        print(f"{kinds}; {crew.starts} starts of workers, {time.monotonic() - begun:.0f} s")
        assert crew.starts >= WORKERS + size.kills // 2, "hardly anybody was killed"
        assert wrong(site.settings) == []
        must_fail(site.settings)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [pytest.param(12, id="short"), pytest.param(90, id="whole", marks=pytest.mark.long)])
def test_a_group_that_never_rests_changes_nothing(tmp_path: Path, seconds: int) -> None:
    """Five members, of which one joins or leaves every two seconds."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    with site_in(tmp_path) as site:
        with Crew(site.settings, 5) as crew:
            stop = threading.Event()

            def source() -> None:
                part = 0
                while not stop.is_set():
                    feed(site.settings, 1_000, seed + part)
                    part += 1
                    stop.wait(0.5)

            thread = threading.Thread(target=source)
            thread.start()
            with tormenting(lambda luck: crew.end(luck.randrange(5), signal.SIGTERM), seed, (2.0, 2.0)):
                time.sleep(seconds)  # how long it lasts, not a wait for something
            stop.set()
            thread.join(60)
            until(lambda: finished(site.settings), 240, "all records to be consumed")
            assert crew.starts > 5
        assert wrong(site.settings) == []


@pytest.mark.timeout(300)
@pytest.mark.long
def test_an_open_transaction_of_a_dead_producer_holds_readers_back_for_a_bounded_time(tmp_path: Path) -> None:
    """At most 12 s, and at most 2 s when its worker is started again."""
    with site_in(tmp_path) as site:
        for successor, bound in ((False, 12.0), (True, 2.0)):
            dead = transactional_producer(site.settings, f"dead-{successor}")
            dead.begin_transaction()
            dead.produce("rollups", b"never", b"k", 0)
            dead.flush(20)
            begun = time.monotonic()
            behind = Producer(producer_config(site.settings))
            behind.produce("rollups", b"behind", b"k", 0)
            behind.flush(20)
            if successor:
                transactional_producer(site.settings, f"dead-{successor}")
            count = 2 if successor else 1
            until(lambda: sum(one.value() == b"behind" for one in log_of(site.settings, "rollups")[0]) == count, 30, "the reader")  # noqa: B023
            took = time.monotonic() - begun
            print(f"successor: {successor}, held back for {took:.1f} s")
            assert took <= bound
            assert successor or took > 5, "nothing was held back: the producer's transaction was not open"
