"""The archiver's pure parts: pace, progress, and what an error of ClickHouse means."""

from __future__ import annotations

from datetime import timedelta
from typing import cast
from unittest import mock

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, OperationalError, ProgrammingError
from confluent_kafka import Consumer, TopicPartition

from consumers.archive.clickhouse import judge
from consumers.archive.intake import GATHER_SECONDS, Batch, Intake, Pace
from consumers.archive.progress import CLOCKS_AGREE, EPOCH, Mark, Progress
from infra.core.errors import Backpressure, MissingPrerequisite, Poison
from infra.core.settings import ArchiverSettings
from schemas.examples import AT
from tests.simulation.clients import SimConsumer
from tests.simulation.lone import LoneWorld

PLACE, OTHER = ("changes", 0), ("changes", 1)


def test_a_lone_record_waits_for_a_moment_and_a_stream_for_as_long_as_a_write_takes() -> None:
    pace = Pace(0.2)
    assert pace.gather(10.0) == GATHER_SECONDS
    pace.wrote(10.0, 10.05)
    assert pace.gather(10.05) == pytest.approx(0.05)
    assert pace.gather(10.07) == pytest.approx(0.03)
    assert pace.gather(11.0) == GATHER_SECONDS
    pace.wrote(11.0, 14.0)
    assert pace.gather(14.0) == 0.2


def test_what_came_while_a_write_was_waited_for_goes_before_what_comes_after_it() -> None:
    """A rebalance brings records to `breathe`; were they put off, an offset behind them could be committed first, and a crash lose them."""
    broker = LoneWorld({"changes": 1})
    for _ in range(3):
        broker.broker.append(("changes", 0), b"k", b"v")
    consumer = SimConsumer(broker, {"group.id": "archiver", "enable.partition.eof": True})
    intake = Intake(cast("Consumer", consumer), {"changes": "changes"}, ArchiverSettings(batch_rows=10))
    batch = Batch()
    intake.breathe(0.0)
    consumer.assign([TopicPartition("changes", 0, 0)])  # not paused yet when `breathe` polls
    with mock.patch.object(consumer, "pause"):
        intake.breathe(0.0)
    for _ in range(5):
        intake.fill(batch)
    assert [message.offset() for message in batch.messages] == [0, 1, 2]


def test_a_partition_is_known_to_be_unknown_first() -> None:
    progress = Progress()
    progress.take([PLACE, OTHER])
    assert progress.news() == [Mark(*PLACE, 0, EPOCH), Mark(*OTHER, 0, EPOCH)]
    progress.told()
    assert progress.news() == []


def test_a_written_record_completes_its_partition_up_to_its_own_time() -> None:
    progress = Progress()
    progress.take([PLACE, OTHER])
    progress.told()
    progress.written(PLACE, 8, AT)
    progress.written(PLACE, 9, AT - timedelta(seconds=5))  # a broker's clock was set back
    assert progress.news() == [Mark(*PLACE, 9, AT)]


def test_an_end_counts_only_where_all_before_it_is_written() -> None:
    progress = Progress()
    progress.take([PLACE, OTHER])
    progress.told()
    progress.written(PLACE, 8, EPOCH)
    progress.compare({PLACE: 9, OTHER: 0}, AT)
    assert progress.news() == [], "one offset is missing; of the other partition nothing was heard"
    progress.at_end(PLACE, 9)
    progress.compare({PLACE: 9}, AT)
    assert progress.news() == [Mark(*PLACE, 9, AT - CLOCKS_AGREE)]
    assert progress.left({PLACE: 12, OTHER: 5}) == 3


def test_what_is_not_ours_any_more_is_not_told() -> None:
    progress = Progress()
    progress.take([PLACE])
    progress.drop([PLACE])
    progress.written(PLACE, 8, AT)
    assert progress.news() == []


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (OperationalError("connection refused"), Backpressure),
        (MissingPrerequisite("No store answers."), Backpressure),
        (ConnectionResetError(), Backpressure),
        (DatabaseError("HTTP 502 from a proxy"), Backpressure),
        (DatabaseError("memory limit", code=241), Backpressure),
        (DatabaseError("too many parts", code=252), Backpressure),
        (DatabaseError("Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", code=243), Backpressure),
        (DatabaseError("filesystem error: No space left on device", code=1001), Backpressure),
        (DatabaseError("Too many partitions for single INSERT block (more than 100)", code=252), Poison),
        (DatabaseError("cannot parse IPv6", code=676), Poison),
        (DataError("Unable to create native array"), Poison),
        (DatabaseError("no such table", code=60), DatabaseError),
        (DatabaseError("wrong password", code=516), DatabaseError),
        (ProgrammingError("Unrecognized column"), ProgrammingError),
    ],
)
def test_an_error_means_later_never_or_an_installation_at_fault(error: Exception, means: type[Exception]) -> None:
    verdict = judge(error)
    assert type(verdict) is means
    if means not in (Backpressure, Poison):
        assert verdict is error
