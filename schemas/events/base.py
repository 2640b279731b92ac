"""What every event shares: immutability, strict fields, and one form of time."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Event(BaseModel):
    """A fact that crosses a topic. Frozen; an unknown field is an error, so a typo in JSON never passes in silence.

    What checks its fields is built when it is used first: that takes a millisecond or two, and no process uses all events.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def to_milliseconds(moment: datetime) -> datetime:
    """The same moment in UTC, cut to whole milliseconds: what Avro's timestamp-millis and DateTime64(3) can hold."""
    if moment.tzinfo is None:
        raise ValueError("a time without its zone means nothing")
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


def in_our_time(moment: datetime) -> datetime:
    """The same, of a time that Driftline itself could have noted. Beyond these years arithmetic overflows, and a state would stay so."""
    if not FIRST <= moment.astimezone(UTC) < LAST:
        raise ValueError(f"{moment.isoformat()} is not between {FIRST.year} and {LAST.year}")
    return moment


FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
AnyTime = Annotated[datetime, AfterValidator(to_milliseconds)]
"""A time that somebody else wrote down: a certificate without an end says 9999 (RFC 5280, 4.1.2.5)."""
Timestamp = Annotated[datetime, AfterValidator(to_milliseconds), AfterValidator(in_our_time)]
Port = Annotated[int, Field(ge=1, le=65535)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Risk = Annotated[float, Field(ge=0.0, le=100.0)]


class Transport(StrEnum):
    """The transport protocol that a port belongs to."""

    TCP = "tcp"
    UDP = "udp"


class PortRange(Event):
    """Ports first..last, both included."""

    first: Port
    last: Port
