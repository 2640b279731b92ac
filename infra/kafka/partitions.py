"""The partitions that a worker owns: restored from the changelog before they are worked on, caught up when they come back."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.core.errors import DamagedState, DriftlineError
from infra.core.ports import StepPlan
from infra.core.settings import Settings
from infra.kafka.client import consumer_config, patiently, prefixed
from infra.kafka.globaltables import applied_key
from infra.kafka.statestore import PartitionState, StateStore

log = structlog.get_logger()
RESTORE_SECONDS = 120.0
RESTORE_BATCH = 10_000


class Partitions:
    """Keeps rebalance callbacks short: they only note what came and went, and pause it; `restore` does the work in the loop."""

    def __init__(self, settings: Settings, plan: StepPlan, consumer: Consumer) -> None:
        self._settings, self._plan, self._consumer = settings, plan, consumer
        self._store: StateStore | None = None
        self._owned: dict[int, PartitionState] = {}
        self._arrived: list[TopicPartition] = []
        self._assigned = False
        self._stable: dict[tuple[str, int], int] = {}
        self.epoch = 0

    def assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions came: fetch nothing of them until they are restored."""
        consumer.assign(partitions)
        consumer.pause(partitions)
        self._arrived = list(partitions)
        self._assigned = True

    def revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions went. Between two batches nothing is open, so there is nothing to finish."""
        del consumer
        self.epoch += 1
        gone = {one.partition for one in partitions}
        self._owned = {number: state for number, state in self._owned.items() if number not in gone}
        self._arrived = [one for one in self._arrived if one.partition not in gone]

    def restore(self) -> None:
        """Bring newly assigned partitions up to date and let them flow."""
        if not self._arrived:
            return
        arrived, self._arrived = self._arrived, []
        numbers = sorted({one.partition for one in arrived})
        if self._plan.changelog:
            # Stable offsets: a predecessor's open transaction has ended.
            for place in patiently(lambda: self._consumer.committed(arrived, 10.0)):
                self._stable[place.topic, place.partition] = place.offset
            try:
                self._replay(numbers)
            except DamagedState as error:
                if self._owned:
                    raise  # the store holds partitions that are in work, too: a restart makes all of them anew
                log.warning("state_damaged", role=self._plan.role, reason=error.message)
                self._store = None
                self._replay(numbers)
        self._owned.update({number: PartitionState(self._store, number) for number in numbers})
        self._consumer.resume(arrived)
        log.info("partitions_ready", role=self._plan.role, partitions=numbers)

    def settled(self) -> bool:
        """Whether an assignment has come (it may be empty) and all of it is restored."""
        return self._assigned and not self._arrived

    def positions(self) -> list[TopicPartition]:
        """Where this worker stands in each assigned partition: read to, else committed, else at the beginning.

        Each is named: a transaction that names no position is one in which the group can't refuse a worker that was left behind.
        """
        places = self._consumer.position(self._consumer.assignment())
        known = [(one, one.offset if one.offset >= 0 else self._stable.get((one.topic, one.partition), 0)) for one in places]
        return [TopicPartition(one.topic, one.partition, max(0, offset)) for one, offset in known if self.has(one.partition)]

    def owned(self) -> list[int]:
        """The numbers of the partitions that can be worked on."""
        return sorted(self._owned)

    def has(self, partition: int) -> bool:
        """Whether the partition can be worked on."""
        return partition in self._owned

    def state(self, partition: int) -> PartitionState:
        """The state of an owned partition."""
        return self._owned[partition]

    def applied(self, partition: int, topic: str) -> int:
        """Up to which offset of a global input this partition has been re-judged."""
        value = self._owned[partition].get(applied_key(topic))
        return int(value) if value else 0

    def note_applied(self, partition: int, topic: str, offset: int) -> None:
        """Record, in the batch's transaction, how far a global input was applied."""
        state = self._owned[partition]
        state.put(applied_key(topic), str(offset).encode())
        state.keep()

    def write_down(self, offsets: dict[int, int]) -> None:
        """After Kafka's commit: put the batch's changes in the local store with the changelog offsets that they stand for."""
        for number, state in self._owned.items():
            if state.batch and self._store is not None and number in offsets:
                self._store.write(number, state.batch, offsets[number])
            state.batch.clear()
        offsets.clear()

    def forget_batch(self) -> None:
        """The transaction was aborted: nothing of the batch happened."""
        for state in self._owned.values():
            state.drop()
            state.batch.clear()

    def close(self) -> None:
        """Release the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _replay(self, numbers: list[int]) -> None:
        changelog = prefixed(self._settings, self._plan.changelog or "")
        # Short long polls: what is waited for is the end, which an empty answer tells.
        reader = Consumer(consumer_config(self._settings, "restore", **{"enable.partition.eof": True, "fetch.wait.max.ms": 20}))
        try:
            store = self._opened(reader)
            ends = _ends(self._settings, changelog, numbers)
            for number, end in ends.items():
                if store.offset(number) > end:
                    log.warning("state_ahead_of_changelog_discarded", partition=number)
                    store.wipe(number)
            reader.assign([TopicPartition(changelog, number, store.offset(number)) for number in numbers])
            self._read_to(reader, store, ends)
        finally:
            reader.close()

    def _read_to(self, reader: Consumer, store: StateStore, ends: dict[int, int]) -> None:
        waiting, deadline, count = (
            {number for number, end in ends.items() if store.offset(number) < end},
            time.monotonic() + RESTORE_SECONDS,
            0,
        )
        while waiting:
            if time.monotonic() > deadline:
                raise DriftlineError(
                    f"The changelog {self._plan.changelog} was not read to its end in {RESTORE_SECONDS:.0f} s.", "See the broker's log."
                )
            changes: dict[int, list[tuple[Any, Any]]] = {number: [] for number in ends}  # a million of these: as few steps each as may be
            reached: dict[int, int] = {}
            for message in reader.consume(RESTORE_BATCH, 0.2):
                number, offset, error = message.partition() or 0, message.offset() or 0, message.error()
                if error is None:
                    changes[number].append((message.key(), message.value()))
                    reached[number] = offset + 1
                    count += 1
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's own name for it
                    reached[number] = max(reached.get(number, 0), offset)
            for number, offset in reached.items():
                store.restore(number, changes[number], offset)
                if offset >= ends[number]:
                    waiting.discard(number)
        if count:
            store.settle()
            log.info("state_restored", role=self._plan.role, records=count)

    def _opened(self, reader: Consumer) -> StateStore:
        if self._store is None:
            cluster = patiently(lambda: reader.list_topics(timeout=10.0)).cluster_id or ""
            worker = f"{self._settings.kafka.prefix}{self._plan.role}-{self._settings.slot}"
            self._store = StateStore(self._settings.data_dir / "state" / worker, cluster)
        return self._store


def _ends(settings: Settings, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The changelog's high watermarks, open transactions included: a table is read to its end only after they have ended."""
    asker = Consumer(consumer_config(settings, "restore", **{"isolation.level": "read_uncommitted"}))

    def end(partition: int) -> int:
        return patiently(lambda: asker.get_watermark_offsets(TopicPartition(topic, partition), 10.0)[1])

    try:
        return {partition: end(partition) for partition in partitions}
    finally:
        asker.close()
