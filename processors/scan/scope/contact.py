"""When an answer of the group's coordinator proves that this scanner is still a member. Pure; times are uptime in seconds."""

from __future__ import annotations

PATIENCE = 2.0  # a removed member's next heartbeat (one a second) is told so within that time


class Contact:
    """The coordinator answers a removed member's question for offsets too. So after a stall the first answers prove nothing:

    only after `PATIENCE` of polling since the first, in which a heartbeat would have heard of the removal, do they count again.
    """

    def __init__(self, cut_off: float, now: float) -> None:
        self._cut_off = cut_off
        self._last = self._counts_from = self._proved = now

    def member(self, now: float) -> float:
        """Partitions were just assigned, or there are none to lose. Returns the moment of the last proof."""
        self._last = self._counts_from = self._proved = now
        return self._proved

    def answered(self, asked: float) -> float:
        """The question that was put then was answered. Returns the moment of the last proof."""
        if asked - self._last > self._cut_off:
            self._counts_from = asked + PATIENCE
        self._last = asked
        if asked >= self._counts_from:
            self._proved = asked
        return self._proved
