"""Writes by people from the command line: the way out to Kafka, what is there already, and the present."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from infra.core.errors import MissingPrerequisite
from infra.core.settings import Settings
from infra.kafka import client
from infra.kafka.client import Publisher
from infra.kafka.registry import codec_for
from producers.auditing import audit, local_actor, publish_audited
from schemas.events.base import Event

KNOCK_SECONDS = 3.0
LAST_SECONDS = 5.0


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def require_kafka(settings: Settings) -> None:
    """Raise at once: MissingPrerequisite if no bootstrap server takes a connection, Refused if none takes our login.

    Kafka's own client would try for half a minute.
    """
    for address in settings.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
        except (OSError, ValueError, OverflowError):
            continue
        if problem := client.login_problem(settings):
            raise client.login_refused(settings, problem)
        return
    raise MissingPrerequisite(
        f"Kafka at {settings.bootstrap} does not answer.", "Start it with 'driftline up', or name another with DRIFTLINE_KAFKA__BOOTSTRAP."
    )


def read_table(settings: Settings, topic: str) -> dict[str, Event]:
    """The latest event of each key of a compacted topic. Raises MissingPrerequisite if Kafka or the topic is not there."""
    require_kafka(settings)
    return client.read_table(settings, topic, codec_for(settings))


@contextmanager
def publisher(settings: Settings) -> Iterator[Publisher]:
    """A way out to Kafka; at the end it waits until all is taken. Raises MissingPrerequisite if Kafka does not take it."""
    require_kafka(settings)
    made = Publisher(settings, codec_for(settings))
    try:
        yield made
    except KeyboardInterrupt:
        made.flush(LAST_SECONDS)
        raise
    made.flush()


def write(out: Publisher, topic: str, key: str, event: Event, action: str, detail: str = "") -> None:
    """Publish what a person decided, with its audit record."""
    publish_audited(out.publish, topic, key, event, audit(local_actor(), action, key, detail, now()))
