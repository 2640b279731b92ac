"""The order of taken units: one a subnet at once, published in the order of the partition, bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from confluent_kafka import Message

from processors.scan.intake import Backlog, Entry, Stage
from processors.scan.partial import Outcome
from schemas.events.targets import WorkUnit
from tests.scan_samples import make_unit

NOW = datetime.now(UTC)


def entry(partition: int, offset: int, unit: WorkUnit) -> Entry:
    return Entry(partition, offset, cast("Message", None), unit, 0.0)


def backlog_of(*entries: Entry, room: int = 64) -> Backlog:
    backlog = Backlog(room)
    backlog.assign({one.partition for one in entries})
    for one in entries:
        backlog.add(one)
    return backlog


def startable(backlog: Backlog, room: int = 16, now: datetime = NOW) -> list[Entry]:
    return backlog.startable(now, room, lambda _: True)


def test_units_of_one_subnet_start_one_at_a_time_in_their_order() -> None:
    first, second = entry(0, 1, make_unit(1, address="198.18.1.1")), entry(0, 2, make_unit(2, address="198.18.1.2"))
    other = entry(0, 3, make_unit(3))
    backlog = backlog_of(first, second, other)
    assert startable(backlog) == [first, other]
    first.stage = other.stage = Stage.RUNNING
    assert startable(backlog) == []
    first.finish(Outcome())
    assert startable(backlog) == [second]


def test_partitions_take_turns_within_the_room() -> None:
    entries = [entry(number % 2, number, make_unit(number)) for number in range(8)]
    found = startable(backlog_of(*entries), room=4)
    assert len(found) == 4
    assert sorted(one.partition for one in found) == [0, 0, 1, 1]


def test_a_held_unit_holds_back_its_subnet_only_and_starts_when_its_time_comes() -> None:
    held = entry(0, 1, make_unit(1, address="198.18.1.1", not_before=NOW + timedelta(seconds=10)))
    behind, other = entry(0, 2, make_unit(2, address="198.18.1.2")), entry(0, 3, make_unit(3))
    backlog = backlog_of(held, behind, other)
    assert startable(backlog) == [other]
    other.stage = Stage.RUNNING
    assert startable(backlog, now=NOW + timedelta(seconds=11)) == [held]


def test_only_the_oldest_of_a_partition_are_ready_as_far_as_they_are_done() -> None:
    first, second, third, fourth = (entry(0, number, make_unit(number)) for number in range(4))
    other = entry(1, 0, make_unit(9))
    backlog = backlog_of(first, second, third, fourth, other)
    for one in (second, fourth):
        one.finish(Outcome())
    assert not list(backlog.ready())
    first.finish(Outcome())
    other.finish(Outcome())
    assert list(backlog.ready()) == [first, second, other]
    assert list(backlog.ready()) == [first, second, other], "what could not be published comes again"
    backlog.forget([first])
    assert list(backlog.ready()) == [second, other]
    backlog.forget([second, other])
    assert list(backlog.queues[0]) == [third, fourth]


def test_a_partition_is_full_at_its_part_of_the_room() -> None:
    backlog = Backlog(room=8)
    backlog.assign([0, 1])
    for offset in range(4):
        assert not backlog.full(0)
        backlog.add(entry(0, offset, make_unit(offset)))
    assert backlog.full(0)
    assert not backlog.full(1)


def test_dropped_partitions_are_forgotten() -> None:
    one = entry(0, 1, make_unit(1))
    backlog = backlog_of(one)
    assert backlog.drop([0, 7]) == [one]
    assert not backlog.queues
    backlog.forget([one])
