"""confluent-kafka's Consumer and Producer as the engine uses them, on the broker in memory. Each call may go wrong, or be the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tests.simulation.broker import Log, Place, fail
from tests.simulation.world import World

INVALID = -1001
LATE = "the answer got lost"


class SimConsumer:
    """A consumer of one process. `config` is librdkafka's; what it does not name here has no effect."""

    def __init__(self, world: World, config: Mapping[str, Any]) -> None:
        self._world, self._broker, self._process = world, world.broker, world.current
        self._group = str(config["group.id"])
        self._eof = bool(config.get("enable.partition.eof"))
        self._uncommitted = config.get("isolation.level") == "read_uncommitted"
        self._name = f"{self._process.name}.{self._process.lives}.{world.luck.getrandbits(32):08x}"
        self._generation = -1
        self._places: dict[Place, int | None] = {}  # what is read next; None: where the group stands
        self._told: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._position: dict[Place, int] = {}
        self._callbacks: tuple[Callable[..., None], ...] = ()
        self._topics: list[str] = []
        self._life = self._process.lives

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        """Join the group."""
        self._world.call()
        self._topics, self._callbacks = list(topics), (on_assign, on_revoke, on_lost)
        self._join()

    def _join(self) -> None:
        process, life, world = self._process, self._life, self._world
        died: list[float] = []

        def heard() -> float:
            if process.lives != life or process.run is None:  # of a former life of this process: nobody beats for it
                died[:1] = died[:1] or [process.silent_since or world.now]
                return died[0]
            return world.heard(process)

        self._broker.join(self._group, self._name, self._topics, heard)

    def assign(self, places: Sequence[TopicPartition]) -> None:
        """Read from here."""
        self._places = {(one.topic, one.partition): one.offset if one.offset >= 0 else None for one in places}
        self._paused, self._told, self._position = set(), {}, {}

    def assignment(self) -> list[TopicPartition]:
        """What is read."""
        return [TopicPartition(*place) for place in self._places]

    def pause(self, places: Sequence[TopicPartition]) -> None:
        """Fetch nothing of these."""
        self._paused |= {(one.topic, one.partition) for one in places}

    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Fetch again."""
        self._paused -= {(one.topic, one.partition) for one in places}

    def poll(self, timeout: float = 0.0) -> Message | None:
        """One record, or an error as a record."""
        return next(iter(self.consume(1, timeout)), None)

    def consume(self, number: int = 1, timeout: float = 0.0) -> list[Message]:
        """What there is, up to so many; waits for the first only (librdkafka waits for all: who relies on that waits longer here)."""
        self._world.call()
        until = self._world.now + timeout
        while True:
            self._heed_the_group()
            found: list[Message] = []
            for place in self._in_some_order():
                found += self._fetch(place, number - len(found))
            if found or self._world.now >= until:
                return found
            self._world.wait(until)

    def _in_some_order(self) -> list[Place]:
        places = [place for place in self._places if place not in self._paused]
        self._world.luck.shuffle(places)
        return places

    def _fetch(self, place: Place, most: int) -> list[Message]:
        at = self._places[place]
        if at is None:
            try:
                at = self._broker.committed(self._group, place) or 0
            except KafkaException:
                return []
            self._places[place] = at
        log, found = self._broker.logs[place], list[Message]()
        end = len(log.entries) if self._uncommitted else log.stable
        if at >= end and (not self._eof or self._told.get(place) == end):
            return found
        most = min(most, self._world.luck.randint(1, 8))
        while at < end and len(found) < most:
            entry = log.entries[at]
            if not entry.marker and (self._uncommitted or entry.fate == "committed"):
                stamp = (2, int(entry.at * 1000))
                found.append(Message(place[0], place[1], at, entry.key, entry.value, headers=list(entry.headers) or None, timestamp=stamp))
                self._position[place] = at + 1
            at += 1
        self._places[place] = at
        if self._eof and at >= end and len(found) < most and self._told.get(place) != end:
            self._told[place] = end
            error = KafkaError(KafkaError._PARTITION_EOF, "end")
            found.append(Message(place[0], place[1], end, error=error))
        return found

    def _heed_the_group(self) -> None:
        if not self._callbacks:
            return
        group = self._broker.groups[self._group]
        if self._name not in group.members:
            self._give_up(self._callbacks[2])
            self._name += "'"
            self._join()
        if group.rebalancing and self._name not in group.joined:
            self._give_up(self._callbacks[1])
            self._broker.rejoin(self._group, self._name)
        if not group.rebalancing and group.members[self._name].generation != self._generation:
            self._generation = group.members[self._name].generation
            places = [TopicPartition(*place) for place in group.members[self._name].assigned]
            self._places = {}
            self._callbacks[0](self, places)
            if not self._places:
                self.assign(places)

    def _give_up(self, told: Callable[..., None]) -> None:
        if self._places:
            told(self, self.assignment())
        self._places, self._generation = {}, -1

    def committed(self, places: Sequence[TopicPartition], timeout: float = 0.0) -> list[TopicPartition]:
        """Where the group stands. Raises KafkaException while a transaction holds the answer."""
        self._world.call()
        found = [(one, self._broker.committed(self._group, (one.topic, one.partition))) for one in places]
        return [TopicPartition(one.topic, one.partition, INVALID if at is None else at) for one, at in found]

    def position(self, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Behind the last record that was handed out."""
        return [TopicPartition(one.topic, one.partition, self._position.get((one.topic, one.partition), INVALID)) for one in places]

    def get_watermark_offsets(self, place: TopicPartition, timeout: float = 0.0, cached: bool = False) -> tuple[int, int]:
        """Begin and end of a partition, as this reader may see it."""
        self._world.call()
        log: Log = self._broker.logs[place.topic, place.partition]
        return 0, len(log.entries) if self._uncommitted else log.stable

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool = False) -> None:
        """Commit outside any transaction. Raises KafkaException also where it was done."""
        self._world.call()
        lost = self._world.trouble()
        if not lost or self._world.luck.random() < 0.5:
            metadata = self.consumer_group_metadata()
            self._broker.store_offsets(metadata, {(one.topic, one.partition): one.offset for one in offsets})
        self._world.call()
        if lost:
            fail(KafkaError._TIMED_OUT, LATE, retriable=True)

    def consumer_group_metadata(self) -> tuple[str, int, str]:
        """For a transaction: group, generation, member."""
        return self._group, self._generation, self._name

    def list_topics(self, topic: str | None = None, timeout: float = 0.0) -> Any:
        """As far as the engine asks: the cluster's name."""
        self._world.call()
        return SimpleNamespace(cluster_id="simulated", topics={})

    def close(self) -> None:
        """Leave the group."""
        self._world.call()
        if self._callbacks:
            self._give_up(self._callbacks[1])
            self._broker.leave(self._group, self._name)


class SimProducer:
    """A producer. What is produced waits here until it is polled, flushed or committed.

    As librdkafka (2.16) it loses the next record of a partition in which one had arrived unanswered before an abort: the two have the
    same sequence number (`tests/integration/test_aborts.py`).
    """

    def __init__(self, world: World, config: Mapping[str, Any]) -> None:
        self._world, self._broker = world, world.broker
        self._id = str(config["transactional.id"]) if "transactional.id" in config else None
        self._told = config.get("on_delivery")
        self._epoch, self._open, self._doomed = -1, False, False
        self._queue: list[tuple[Place, bytes | None, bytes | None, list[Any], Any]] = []
        self._reused: dict[Place, int] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def _owner(self) -> tuple[str, int]:
        assert self._id is not None
        return self._id, self._epoch

    def init_transactions(self, timeout: float = 0.0) -> None:
        """Fence the predecessor."""
        self._world.call()
        self._epoch = self._broker.start(self._owner()[0])
        self._world.call()

    def begin_transaction(self) -> None:
        """Nothing reaches the broker yet."""
        assert not self._open, "a transaction is open"
        self._open, self._doomed = True, False

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = 0,
        on_delivery: Any = None,
        headers: Any = None,
    ) -> None:
        """Queue a record. Raises BufferError now and then, as a full queue does."""
        if self._world.trouble():
            raise BufferError("queue full")
        self._queue.append(((topic, partition), key, value, list(headers or []), on_delivery or self._told))

    def poll(self, timeout: float = 0.0) -> int:
        """Send some."""
        self._world.call()
        self._deliver(self._world.luck.randint(0, len(self._queue)))
        return 0

    def flush(self, timeout: float = 0.0) -> int:
        """Send all. In a transaction one may be refused: then it has to be aborted."""
        self._world.call()
        if self._open and self._world.trouble():
            self._deliver(self._world.luck.randint(0, len(self._queue)))
            unanswered = self._queue[: self._world.luck.randint(0, len(self._queue))]
            self._reused |= {
                place: self._broker.append(place, key, value, headers, self._owner()) for place, key, value, headers, _ in unanswered
            }
            self._doomed = True
            self._queue.clear()
        while self._queue:
            self._deliver(self._world.luck.randint(1, len(self._queue)))
            self._world.call()
        return 0

    def _deliver(self, count: int) -> None:
        ready, self._queue = self._queue[:count], self._queue[count:]
        for place, key, value, headers, told in ready:
            offset = self._reused.pop(place, None)
            if offset is None:
                offset = self._broker.append(place, key, value, headers, self._owner() if self._id else None)
            if told is not None:
                told(None, Message(place[0], place[1], offset, key, value))

    def send_offsets_to_transaction(self, offsets: Sequence[TopicPartition], group: tuple[str, int, str], timeout: float = 0.0) -> None:
        """Let the transaction carry these. Raises KafkaException, also where it was done."""
        self._world.call()
        self._check()
        lost = self._world.trouble()
        if not lost or self._world.luck.random() < 0.5:
            self._broker.add_offsets(self._owner(), group, {(one.topic, one.partition): one.offset for one in offsets})
        self._world.call()
        if lost:
            fail(KafkaError._TIMED_OUT, LATE, retriable=True)

    def commit_transaction(self, timeout: float = 0.0) -> None:
        """Commit. Raises KafkaException, also where it was done; to ask again is harmless then."""
        self.flush()
        self._check()
        self._finish("committed")

    def abort_transaction(self, timeout: float = 0.0) -> None:
        """Abort. Raises KafkaException, also where it was done."""
        self._world.call()
        self._queue.clear()
        self._finish("aborted")

    def _finish(self, fate: str) -> None:
        lost = self._world.trouble()
        if self._open and (not lost or self._world.luck.random() < 0.5):
            self._broker.end(self._owner(), fate)
            self._open = False
        self._world.call()
        if lost:
            fail(KafkaError._TIMED_OUT, LATE, retriable=True)

    def _check(self) -> None:
        if self._doomed:
            fail(KafkaError._MSG_TIMED_OUT, "a record was not taken", abort=True)
