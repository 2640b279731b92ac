"""A limit of so many an hour, over a sliding window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

HOUR = 3600.0


class HourlyBudget:
    """Counts what was spent in the last hour. `clock` gives seconds that never go back. Memory is bounded by the limit."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._spent: deque[float] = deque()

    def take(self) -> bool:
        """Spend one, if one is left."""
        now = self._clock()
        while self._spent and self._spent[0] <= now - HOUR:
            self._spent.popleft()
        if len(self._spent) >= self._limit:
            return False
        self._spent.append(now)
        return True
