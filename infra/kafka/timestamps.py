"""Kafka's append time as Driftline's time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from confluent_kafka import Message

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def recorded_at(message: Message) -> datetime:
    """When the broker appended the record (topics are made with LogAppendTime)."""
    return EPOCH + timedelta(milliseconds=message.timestamp()[1])
