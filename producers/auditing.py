"""Every write by a person leaves a record: who did what to what, when, from where."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from schemas.events.base import Event
from schemas.events.operations import AuditRecord
from schemas.ids import content_id

Publish = Callable[[str, str, Event], None]
"""Puts one event into a topic under a key; `infra.kafka.client.Publisher.publish` is one."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes, and from where."""

    name: str
    origin: str


def local_actor() -> Actor:
    """The user of this process on this machine."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return Actor(name, f"cli@{socket.gethostname()}")


def audit(actor: Actor, action: str, subject: str, detail: str, at: datetime) -> AuditRecord:
    """The record of one write, e.g. action `grant.revoke` on the subject `lab`."""
    audit_id = content_id("audit", actor.name, action, subject, detail, actor.origin, at.isoformat())
    return AuditRecord(audit_id=audit_id, actor=actor.name, action=action, subject=subject, detail=detail, origin=actor.origin, at=at)


def publish_audited(publish: Publish, topic: str, key: str, event: Event, record: AuditRecord) -> None:
    """Publish an event and the record of who published it."""
    publish(topic, key, event)
    publish("audit", record.actor, record)
