"""Kafka's append time as Driftline's time."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

from confluent_kafka import Message

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def recorded_at(message: Message) -> datetime:
    """When the broker appended the record (topics are made with LogAppendTime)."""
    return _moment(message.timestamp()[1])


@functools.lru_cache(maxsize=64)  # the records of one batch at the broker share their time
def _moment(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)
