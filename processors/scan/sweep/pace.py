"""The pace of each host in a sweep. Pure.

In the order of a sweep each round visits every host once, at the same place. So a host's pace is a timetable: round `r`, place `i` of `n`
is due (r + i / n) / rate after the beginning, and two probes of one host are never closer than 1 / rate. A sweep that was held up goes
on from there: it may catch up on `SLACK` seconds, not on more, and on nothing where a host gets so few probes that this would be one
more a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.pacing import MARGIN

SLACK = 0.045
CATCHES_UP_FROM = 40.0


class Timetable:
    """When positions of an order over `hosts` are due, at a limit of so many probes a second and host. Rounds are counted as they come."""

    def __init__(self, hosts: int, rate: float, now: float) -> None:
        self._hosts, self._rate, self._begun = hosts, rate * MARGIN, now
        self._slack = SLACK if rate >= CATCHES_UP_FROM else 0.0

    def due(self, rounds: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """The earliest moments for probes at these rounds and places, ascending as they are."""
        when: NDArray[np.float64] = self._begun + (rounds + places / self._hosts) / self._rate
        return when

    def late(self, due: float, now: float) -> None:
        """Note that what was due at one moment can leave, or left, only now: if that is late, all that follows is late as well.

        To be told before a batch is chosen, so that a stall is not made up for by a burst, and after it left, so that a wait is not either.
        """
        self._begun += max(0.0, now - due - self._slack)

    def skip_round(self) -> None:
        """Note that a round was pushed in, in which hosts got what did not belong to the order."""
        self._begun += 1 / self._rate
