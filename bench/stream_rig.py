"""A real broker, an input that is filled once, and engines that run over it as child processes, each with its rate and CPU taken alike.

The clock of a run starts at the first commit that covers the warm-up (all assets once: start, rebalance, compilation of Java are
not counted) and ends at the commit of the last record. CPU is the engine's process with all its threads, between the two.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.measuring import cpu_seconds
from infra.core.errors import DriftlineError
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import patiently, read_whole
from tests.processes import end

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Run:
    """One run: records a second and CPU seconds per 100,000 records, from the end of the warm-up on."""

    rate: float
    cpu: float
    records: int


class Rig:
    """The broker's topics, and who reads them."""

    def __init__(self, bootstrap: str, folder: Path, partitions: int = 4) -> None:
        self.settings = Settings(data_dir=folder, kafka=KafkaSettings(bootstrap=bootstrap, partitions=partitions))
        self.bootstrap, self.folder, self.partitions = bootstrap, folder, partitions
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def make_topic(self, name: str, compact: bool = False) -> None:
        """A topic, made before the clock runs."""
        config = {"cleanup.policy": "compact" if compact else "delete"}
        for done in self._admin.create_topics([NewTopic(name, self.partitions, 1, config=config)]).values():
            done.result(30)

    def drop_topics(self, prefix: str) -> None:
        """Remove what a run left, so that the next one meets the same broker."""
        names = [name for name in self._admin.list_topics(timeout=10).topics if prefix in name]
        for done in self._admin.delete_topics(names).values() if names else ():
            done.result(30)

    def fill(self, topic: str, records: Iterable[tuple[str, bytes]]) -> int:
        """Write the input; the partition is Kafka's own choice for the key. A request that is tried again must not change a key's order."""
        self.make_topic(topic)
        config = {"bootstrap.servers": self.bootstrap, "linger.ms": 20, "compression.type": "lz4", "partitioner": "murmur2_random"}
        producer, count = Producer({**config, "enable.idempotence": True, "queue.buffering.max.messages": 1_000_000}), 0
        for key, value in records:
            producer.produce(topic, value, key.encode())
            count += 1
            if count % 10_000 == 0:
                producer.poll(0)
        if producer.flush(120):
            raise DriftlineError("The broker did not take the input.", "Look at its log.")
        return count

    def values(self, topic: str) -> list[bytes]:
        """The values of all committed records of a topic."""
        found: list[bytes] = []
        self.read(topic, lambda message: found.append(message.value() or b""))
        return found

    def table(self, topic: str, key_of: Callable[[bytes], str | None]) -> dict[str, bytes]:
        """What a compacted topic says at its end; records whose key stands for nothing are left out."""
        found: dict[str, bytes] = {}

        def take(message: Message) -> None:
            key = key_of(bytes(message.key() or b""))
            value = message.value()
            if key is not None and isinstance(value, bytes):
                found[key] = value
            elif key is not None:
                found.pop(key, None)

        self.read(topic, take)
        return found

    def read(self, topic: str, take: Callable[[Message], None]) -> None:
        """Every committed record of a topic."""
        read_whole(self.settings, topic, take)

    def run(self, argv: Sequence[str], group: str, topics: dict[str, int], warm_up: int, limit: float, env: dict[str, str]) -> Run:
        """Run an engine until its group has committed `topics` (name: records). Raises DriftlineError if it ends or takes too long."""
        total = sum(topics.values())
        with (self.folder / f"{group}.log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **env})
        watcher = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})  # asks what is committed, joins nothing
        deadline, start = time.monotonic() + limit, None
        try:
            while True:
                done, now, cpu = self._committed(watcher, topics), time.monotonic(), cpu_seconds(process.pid)
                if start is None and done >= warm_up:
                    start = (done, now, cpu)
                if start is not None and done >= total:
                    records = total - start[0]
                    if not records:
                        raise DriftlineError(f"All {total} records were through at the first look: nothing was measured.", "Ask for more.")
                    return Run(records / (now - start[1]), (cpu - start[2]) * 100_000 / records, records)
                if process.poll() is not None or now > deadline:
                    said = (self.folder / f"{group}.log").read_text(errors="replace")[-2000:]
                    raise DriftlineError(f"{group} got to {done} of {total} records: {said}", "The measurement failed.")
                time.sleep(0.02)
        finally:
            watcher.close()
            end(process)

    def wait_committed(self, group: str, topics: dict[str, int], limit: float) -> None:
        """Wait until a group has committed so many records. Raises DriftlineError if it takes longer."""
        watcher = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        deadline = time.monotonic() + limit
        try:
            while self._committed(watcher, topics) < sum(topics.values()):
                if time.monotonic() > deadline:
                    raise DriftlineError(f"{group} did not handle its records in {limit:.0f} s.", "The measurement failed.")
                time.sleep(0.1)
        finally:
            watcher.close()

    def _committed(self, watcher: Consumer, topics: dict[str, int]) -> int:
        places = [TopicPartition(name, number) for name in topics for number in range(self.partitions)]
        found = patiently(lambda: watcher.committed(places, 10.0))
        return sum(max(0, one.offset) for one in found)
