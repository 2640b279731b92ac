"""What the benchmark of intelligence runs on: a topic `intel` of many records, EPSS days of made-up scores, a correlator in a process."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from infra.core.settings import Settings
from infra.kafka.client import consumer_config, key_of, prefixed, producer_config, read_whole, value_of
from infra.kafka.globaltables import applied_key
from producers.intel.cve import read_cve
from producers.intel.feeds import BY_NAME, statements
from schemas.codec import Codec
from schemas.intel_head import FOUND, read_head, with_head
from schemas.plain import Plain
from tests.feeds import REAL_CVES, cve

MB = 1 << 20


def cve_name(number: int) -> str:
    """The name of a record of the benchmark."""
    return f"CVE-{2000 + number % 26}-{10_000 + number}"


def values(count: int) -> Iterator[tuple[str, bytes]]:
    """Records under made-up names: the 1,200 real ones again and again where they are at hand, else a made one."""
    codec = Codec()
    header = codec.header("intel")
    said = list(statements(BY_NAME["cve"], REAL_CVES)) if REAL_CVES.exists() else [read_cve(cve())]
    templates = [codec.encode("intel", Plain("IntelRecord", one)) for one in said if isinstance(one, dict)]
    for number in range(count):
        value, name = templates[number % len(templates)], cve_name(number)
        head = read_head(value, header, FOUND)
        assert head is not None
        yield name, with_head(value, head, {**head.fields, "cve": name}, FOUND)


def fill(settings: Settings, count: int) -> int:
    """Write so many records to `intel`. Returns their bytes."""
    return send(settings, "intel", ((name, value, 0) for name, value in values(count)))


def send(settings: Settings, topic: str, records: Iterable[tuple[str, bytes, int]]) -> int:
    """Write records: key, value, partition. Returns the bytes of their values."""
    producer, total = Producer(producer_config(settings, **{"linger.ms": 50})), 0
    for key, value, partition in records:
        total += len(value)
        while True:
            try:
                producer.produce(prefixed(settings, topic), value, key.encode(), partition)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return total


def epss_day(folder: Path, day: str, scores: int) -> str:
    """A made-up EPSS day, in which every score is another one than on any other day."""
    chance, path = random.Random(day), folder / f"epss-{day}.csv"  # noqa: S311  figures of a benchmark
    with path.open("w") as out:
        out.write(f"#model_version:made-up,score_date:{day}T00:00:00+0000\ncve,epss,percentile\n")
        out.writelines(f"{cve_name(number)},{chance.random():.5f},{chance.random():.5f}\n" for number in range(scores))
    return str(path)


def applied(settings: Settings) -> list[int]:
    """Up to which offset of `intel` each partition's state says that it has applied it."""
    found: dict[int, int] = {}

    def take(message: Message) -> None:
        if key_of(message) == applied_key("intel"):
            found[message.partition() or 0] = int(value_of(message) or b"0")

    read_whole(settings, "state.correlator", take)
    return [found.get(number, 0) for number in range(settings.kafka.partitions)]


class Tail:
    """What the correlators write to their state from now on: to read all of it again would take longer than what is measured."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(consumer_config(settings, "tail", **{"fetch.wait.max.ms": 20}))
        places = [TopicPartition(prefixed(settings, "state.correlator"), number) for number in range(settings.kafka.partitions)]
        for one in places:
            one.offset = self._consumer.get_watermark_offsets(one, 10.0)[1]
        self._consumer.assign(places)

    def wait(self, offset: int, partitions: int, seconds: float = 900.0) -> None:
        """Wait until so many partitions have applied `intel` up to here, and end."""
        missing, deadline = set(range(partitions)), time.monotonic() + seconds
        try:
            while missing:
                message = self._consumer.poll(1.0)
                if message is not None and key_of(message) == applied_key("intel") and int(value_of(message) or b"0") >= offset:
                    missing.discard(message.partition() or 0)
                if time.monotonic() > deadline:
                    raise TimeoutError("the correlator did not get there in time")
        finally:
            self._consumer.close()


@contextmanager
def correlator(settings: Settings) -> Iterator[psutil.Process]:
    """The role in a process of its own, ready."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_correlate, args=(settings.model_dump(), ready), daemon=True)
    process.start()
    try:
        if not ready.wait(300):
            raise TimeoutError("the correlator was not ready in time")
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.join(10)


def _correlate(plain: dict[str, object], ready: threading.Event) -> None:
    from infra.core.settings import load_settings
    from processors.correlate.role import run

    os.environ["MALLOC_ARENA_MAX"] = "2"
    run(load_settings(**plain), threading.Event(), ready.set)


def wait_applied(settings: Settings, offset: int, seconds: float = 900.0) -> float:
    """Wait until every partition has applied `intel` up to here; returns how long that took."""
    begun = time.monotonic()
    while min(applied(settings)) < offset:
        if time.monotonic() - begun > seconds:
            raise TimeoutError("the correlator did not get there in time")
        time.sleep(0.2)
    return time.monotonic() - begun
