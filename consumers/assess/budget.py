"""A limit of so many an hour, over a sliding window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from infra.core.settings import ModelSettings

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


@dataclass(frozen=True, slots=True)
class Budgets:
    """What the review loop may spend. Made once a process: it outlives a loop that breaks and begins anew."""

    calls: HourlyBudget
    follow_ups: HourlyBudget


def budgets_of(settings: ModelSettings, clock: Callable[[], float]) -> Budgets:
    """Full budgets, as the settings say."""
    return Budgets(HourlyBudget(settings.calls_per_hour, clock), HourlyBudget(settings.followups_per_hour, clock))
