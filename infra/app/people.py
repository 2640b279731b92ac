"""Writes by people from the command line: the way out to Kafka, and the present."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from infra.core.settings import Settings
from infra.kafka.client import Publisher
from infra.kafka.registry import codec_for
from producers.auditing import audit, local_actor, publish_audited
from schemas.events.base import Event


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


@contextmanager
def publisher(settings: Settings) -> Iterator[Publisher]:
    """A way out to Kafka; at the end it waits until all is taken. Raises MissingPrerequisite if Kafka does not take it."""
    made = Publisher(settings, codec_for(settings))
    yield made
    made.flush()


def write(out: Publisher, topic: str, key: str, event: Event, action: str, detail: str = "") -> None:
    """Publish what a person decided, with its audit record."""
    publish_audited(out.publish, topic, key, event, audit(local_actor(), action, key, detail, now()))
