"""A wall clock that does not jump: a machine's clock that is set an hour back or forth must not change what events say.

Votes on a service count only in the order of their times (DESIGN.md 4.4), so an agent whose clock went back an hour would be deaf for that
hour. Hence the wall clock is read once and goes on by the machine's uptime; it is read anew only while Kafka's own time agrees with it.
Kafka never sets it: whoever rules the broker can't make an expired grant valid.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

AGREES = timedelta(seconds=5)
"""So far from Kafka's time a clock counts as right; beyond it an agent is flagged."""


def utc_now() -> datetime:
    """The wall clock as it is."""
    return datetime.now(UTC)


def uptime() -> float:
    """Seconds since the machine started, sleep included: a process or laptop that was stopped finds that time has passed."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """Tells the time in UTC. `wall` and `seconds` (of a clock that nobody sets) are passed in by tests."""

    def __init__(self, wall: Callable[[], datetime] = utc_now, seconds: Callable[[], float] = uptime) -> None:
        self.wall, self._seconds = wall, seconds
        self._anchor = wall(), seconds()

    def now(self) -> datetime:
        """The time now."""
        told, at = self._anchor
        return told + timedelta(seconds=self._seconds() - at)

    def heard(self, sent: datetime, appended: datetime) -> timedelta:
        """A record that was sent when the wall clock said `sent`, and is acknowledged now, was appended at Kafka's `appended`.

        Follows the wall clock if the two agree. Gives how far the wall clock is ahead of Kafka's.
        """
        wall, seconds = self.wall(), self._seconds()
        ahead = sent + (wall - sent) / 2 - appended
        if abs(ahead) <= AGREES and abs(wall - sent) <= 2 * AGREES:
            self._anchor = wall, seconds
        return ahead


class SetBack:
    """Notices that the wall clock was set back.

    Kafka's library waits until moments of the wall clock (librdkafka issue 2145): what waits when it is set back an hour waits an hour.
    """

    def __init__(self, wall: Callable[[], datetime] = utc_now, seconds: Callable[[], float] = uptime) -> None:
        self._wall, self._seconds = wall, seconds
        self._last = wall(), seconds()

    def seen(self) -> timedelta | None:
        """By how much it was set back since it was asked last, if by more than what counts as right."""
        (told, at), self._last = self._last, (self._wall(), self._seconds())
        lost = told + timedelta(seconds=self._last[1] - at) - self._last[0]
        return lost if lost > AGREES else None
