"""What the engine relies on, asked of the simulated broker and of a real one alike: so that a run in memory means something."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import consumer_config, patiently, transactional_producer
from tests.simulation.clients import SimConsumer, SimProducer
from tests.simulation.lone import LoneWorld

pytestmark = pytest.mark.kafka
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a test's clients go: a topic `t` with two partitions, `out` with one, names of its own."""

    consumer: Callable[..., Any]
    producer: Callable[[str], Any]
    topic: str
    out: str
    clock: Callable[[], float]


@pytest.fixture(params=["simulated", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    prefix = f"c{uuid.uuid4().hex[:8]}."
    topic, out = f"{prefix}t", f"{prefix}out"
    if request.param == "simulated":
        world = LoneWorld({topic: 2, out: 1})

        def simulated(name: str) -> SimProducer:
            producer = SimProducer(world, {"transactional.id": prefix + name})
            producer.init_transactions(30.0)
            return producer

        made = Settings(kafka=KafkaSettings(bootstrap="nowhere:1", prefix=prefix))
        return Cluster(
            lambda group, **over: SimConsumer(world, consumer_config(made, group, **over)), simulated, topic, out, lambda: world.now
        )
    settings = Settings(kafka=KafkaSettings(bootstrap=request.getfixturevalue("kafka"), prefix=prefix))
    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    for future in admin.create_topics([NewTopic(topic, 2, 1), NewTopic(out, 1, 1)]).values():
        future.result(SECONDS)

    def producer(name: str) -> Producer:
        return transactional_producer(settings.model_copy(update={"slot": 0}), name)

    def consumer(group: str, **over: Any) -> Consumer:
        return Consumer(consumer_config(settings, group, **{"fetch.wait.max.ms": 20, **over}))

    return Cluster(consumer, producer, topic, out, time.monotonic)


def write(cluster: Cluster, producer: Any, *values: str, topic: str | None = None, partition: int = 0) -> None:
    for value in values:
        producer.produce(topic or cluster.topic, value.encode(), b"k", partition)
    producer.flush(SECONDS)


def in_transaction(cluster: Cluster, producer: Any, *values: str, commit: bool = True) -> None:
    producer.begin_transaction()
    write(cluster, producer, *values)
    (producer.commit_transaction if commit else producer.abort_transaction)(SECONDS)


def reader(cluster: Cluster, topic: str | None = None, **over: Any) -> Any:
    one = cluster.consumer("reader", **{"enable.partition.eof": True, **over})
    one.assign([TopicPartition(topic or cluster.topic, 0, 0)])
    return one


def read_on(cluster: Cluster, consumer: Any, wanted: int = 0, end: int = 0) -> tuple[list[tuple[int, str]], int]:
    """Offset and value of what comes, at least so many, up to an end that is told at or behind `end`, and where that is.

    A commit is done before its markers are written, so what it holds may take a moment to be seen.
    """
    found: list[tuple[int, str]] = []
    until = cluster.clock() + SECONDS
    while cluster.clock() < until:
        for message in consumer.consume(100, 0.2):
            if message.error() is None:
                found.append((message.offset(), message.value().decode()))
            elif message.error().code() == KafkaError._PARTITION_EOF and len(found) >= wanted and message.offset() >= end:
                return found, message.offset()
    raise AssertionError(f"the end was never told; seen: {found}")


def committed(cluster: Cluster, group: str = "group") -> int:
    asker = cluster.consumer(group)
    (place,) = patiently(lambda: asker.committed([TopicPartition(cluster.topic, 0)], 5.0))
    asker.close()
    return int(place.offset)


def joined(cluster: Cluster, group: str = "group") -> Any:
    """A consumer that is in the group and has its partitions."""
    one, told = cluster.consumer(group), list[str]()

    def assigned(consumer: Any, places: list[TopicPartition]) -> None:
        consumer.assign(places)
        told.append("assigned")

    one.subscribe(
        [cluster.topic],
        on_assign=assigned,
        on_revoke=lambda *_: told.append("revoked"),
        on_lost=lambda *_: told.append("lost"),
    )
    until = cluster.clock() + SECONDS
    while "assigned" not in told and cluster.clock() < until:
        one.poll(0.2)
    assert told == ["assigned"]
    return one


def test_a_transaction_is_seen_at_once_or_never_and_its_marker_takes_an_offset(cluster: Cluster) -> None:
    producer, consumer = cluster.producer("a"), reader(cluster)
    in_transaction(cluster, producer, "1", "2")
    in_transaction(cluster, producer, "no", commit=False)
    in_transaction(cluster, producer, "3")
    assert read_on(cluster, consumer, 3, 7) == ([(0, "1"), (1, "2"), (5, "3")], 7)
    producer.begin_transaction()
    write(cluster, producer, "4")
    assert read_on(cluster, reader(cluster), 3) == ([(0, "1"), (1, "2"), (5, "3")], 7), "an open transaction is the end"
    producer.commit_transaction(SECONDS)
    assert read_on(cluster, consumer, 1, 9) == ([(7, "4")], 9)


def test_who_reads_committed_records_waits_behind_anybodys_open_transaction(cluster: Cluster) -> None:
    slow, quick = cluster.producer("slow"), cluster.producer("quick")
    slow.begin_transaction()
    write(cluster, slow, "slow")
    in_transaction(cluster, quick, "quick")
    consumer = reader(cluster)
    assert read_on(cluster, consumer) == ([], 0)
    everything = reader(cluster, **{"isolation.level": "read_uncommitted"})
    assert [value for _, value in read_on(cluster, everything, 2, 3)[0]] == ["slow", "quick"]
    place = TopicPartition(cluster.topic, 0)
    assert everything.get_watermark_offsets(place, SECONDS)[1] == 3
    slow.abort_transaction(SECONDS)
    assert read_on(cluster, consumer, 1, 4) == ([(1, "quick")], 4)


def test_a_successor_ends_its_predecessors_transaction_and_fences_him(cluster: Cluster) -> None:
    first = cluster.producer("same")
    first.begin_transaction()
    write(cluster, first, "of the first")
    second = cluster.producer("same")
    in_transaction(cluster, second, "of the second")
    first.produce(cluster.topic, b"late", b"k", 0)
    with pytest.raises(KafkaException) as refused:
        first.commit_transaction(SECONDS)
    assert not refused.value.args[0].retriable()
    assert [value for _, value in read_on(cluster, reader(cluster), 1)[0]] == ["of the second"]


def test_offsets_count_when_their_transaction_is_committed(cluster: Cluster) -> None:
    consumer, producer = joined(cluster), cluster.producer("a")
    for offset, commit, known in ((5, False, -1001), (7, True, 7), (9, False, 7)):
        producer.begin_transaction()
        write(cluster, producer, "x", topic=cluster.out)
        producer.send_offsets_to_transaction([TopicPartition(cluster.topic, 0, offset)], consumer.consumer_group_metadata(), SECONDS)
        (producer.commit_transaction if commit else producer.abort_transaction)(SECONDS)
        assert committed(cluster) == known
    consumer.close()


def test_offsets_in_an_open_transaction_are_nobodys_to_read(cluster: Cluster) -> None:
    consumer, producer = joined(cluster), cluster.producer("a")
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(cluster.topic, 0, 5)], consumer.consumer_group_metadata(), SECONDS)
    asker = cluster.consumer("group")
    with pytest.raises(KafkaException):
        asker.committed([TopicPartition(cluster.topic, 0)], 2.0)
    producer.commit_transaction(SECONDS)
    assert committed(cluster) == 5
    consumer.close()


def test_a_group_refuses_who_was_left_behind_and_lets_him_abort(cluster: Cluster) -> None:
    producer, left = cluster.producer("a"), joined(cluster)
    metadata = left.consumer_group_metadata()
    left.close()
    successor = joined(cluster)
    producer.begin_transaction()
    write(cluster, producer, "x", topic=cluster.out)
    with pytest.raises(KafkaException) as refused:
        producer.send_offsets_to_transaction([TopicPartition(cluster.topic, 0, 5)], metadata, SECONDS)
    assert refused.value.args[0].txn_requires_abort()
    producer.abort_transaction(SECONDS)
    assert committed(cluster) == -1001
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(cluster.topic, 0, 6)], successor.consumer_group_metadata(), SECONDS)
    producer.commit_transaction(SECONDS)
    assert committed(cluster) == 6
    successor.close()


def test_a_transaction_may_name_no_position_and_then_nobody_is_refused(cluster: Cluster) -> None:
    """Why the loop always names one."""
    producer, left = cluster.producer("a"), joined(cluster)
    left.close()
    in_transaction(cluster, producer, "of one who is in no group")
    assert read_on(cluster, reader(cluster), 1)[0] == [(0, "of one who is in no group")]


def test_a_second_member_gets_its_share_after_the_first_gave_all_up(cluster: Cluster) -> None:
    story: list[tuple[str, str, list[int]]] = []

    def member(name: str) -> Any:
        one = cluster.consumer("group")

        def assigned(consumer: Any, places: list[TopicPartition]) -> None:
            consumer.assign(places)
            story.append((name, "assigned", sorted(place.partition for place in places)))

        def revoked(_: Any, places: list[TopicPartition]) -> None:
            story.append((name, "revoked", sorted(place.partition for place in places)))

        one.subscribe([cluster.topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        return one

    members = {"first": member("first")}

    def turn_until(done: Callable[[], bool]) -> None:
        until = cluster.clock() + SECONDS
        while not done() and cluster.clock() < until:
            for one in members.values():
                one.poll(0.05)
        assert done(), story

    turn_until(lambda: ("first", "assigned", [0, 1]) in story)
    members["second"] = member("second")
    turn_until(lambda: len(story) >= 4)
    assert story[:2] == [("first", "assigned", [0, 1]), ("first", "revoked", [0, 1])]
    assert sorted(number for _, what, part in story[2:] if what == "assigned" for number in part) == [0, 1]
    members.pop("second").close()
    turn_until(lambda: story[-1] == ("first", "assigned", [0, 1]) and len(story) > 4)
    members["first"].close()


@pytest.mark.long
def test_an_open_transaction_is_aborted_when_its_time_is_over(cluster: Cluster) -> None:
    producer, consumer = cluster.producer("dead"), reader(cluster)
    begun = cluster.clock()
    producer.begin_transaction()
    write(cluster, producer, "never")
    in_transaction(cluster, cluster.producer("alive"), "behind it")
    found, _ = read_on(cluster, consumer, 1)
    assert [value for _, value in found] == ["behind it"]
    assert 9 < cluster.clock() - begun < 13
    with pytest.raises(KafkaException):
        producer.commit_transaction(SECONDS)
