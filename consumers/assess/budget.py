"""What the model may cost: limits an hour over a sliding window, and a limit of the rate."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from infra.core.model_settings import ModelSettings

HOUR, MINUTE = 3600.0, 60.0
CHARACTERS_A_TOKEN = 3.0
"""A cautious guess for English and JSON, where four are usual: what a question will cost is not known before."""
Clock = Callable[[], float]


@dataclass(slots=True)
class Spent:
    """An amount, and when it was spent."""

    at: float
    amount: float


class HourlyBudget:
    """Counts what was spent in the last hour. `clock` gives seconds that never go back; no limit: it only counts.

    Memory is bounded by the number of calls within an hour, which has a limit of its own.
    """

    def __init__(self, limit: float | None, clock: Clock) -> None:
        self.limit, self._clock = limit, clock
        self._entries: deque[Spent] = deque()
        self._total = 0.0

    def take(self, amount: float = 1.0) -> Spent | None:
        """Spend an amount, if so much is left; the entry can be settled later."""
        if self.limit is not None and self.spent() + amount > self.limit:
            return None
        entry = Spent(self._clock(), amount)
        self._entries.append(entry)
        self._total += amount
        return entry

    def settle(self, entry: Spent, amount: float) -> None:
        """Say what it was in truth."""
        if entry.at > self._clock() - HOUR:
            self._total += amount - entry.amount
            entry.amount = amount

    def remember(self, amount: float, age: float) -> None:
        """Count what was spent so many seconds ago, by a process before this one. In any order."""
        if age < HOUR and amount:
            self._entries.appendleft(Spent(self._clock() - age, amount))
            self._entries = deque(sorted(self._entries, key=lambda one: one.at))
            self._total += amount

    def spent(self) -> float:
        """How much of the last hour's."""
        oldest = self._clock() - HOUR
        while self._entries and self._entries[0].at <= oldest:
            self._total -= self._entries.popleft().amount
        if not self._entries:
            self._total = 0.0  # sums of fractions drift
        return self._total


class RateLimit:
    """At most so many a minute: `turn` says how many seconds to wait before the next one."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit, self._clock = limit, clock
        self._turns: deque[float] = deque(maxlen=limit)

    def turn(self) -> float:
        """Take the next turn; seconds until it comes, which whoever took it must wait."""
        now = self._clock()
        at = max(now, self._turns[0] + MINUTE) if len(self._turns) == self._limit else now
        self._turns.append(at)
        return at - now


@dataclass(frozen=True, slots=True)
class Call:
    """What one call was taken to cost, until it is known."""

    tokens: Spent
    money: Spent


@dataclass(frozen=True, slots=True)
class Budgets:
    """What the review loop may spend. Made once a process: it outlives a loop that breaks and begins anew."""

    calls: HourlyBudget
    tokens: HourlyBudget
    money: HourlyBudget
    follow_ups: HourlyBudget
    rate: RateLimit

    def begin(self, tokens: float, money: float) -> Call | str:
        """Take what a call may cost at most, or say which budget it would break."""
        for budget, amount, name in ((self.calls, 1.0, "calls"), (self.tokens, tokens, "tokens"), (self.money, money, "money")):
            if budget.limit is not None and budget.spent() + amount > budget.limit:
                return f"over the budget of {budget.limit:g} {'of money' if name == 'money' else name} an hour"
        self.calls.take()
        spent_tokens, spent_money = self.tokens.take(tokens), self.money.take(money)
        if spent_tokens is None or spent_money is None:  # never: both were just asked
            return "over the budget"
        return Call(spent_tokens, spent_money)

    def end(self, call: Call, tokens: float, money: float) -> None:
        """Say what a call cost."""
        self.tokens.settle(call.tokens, tokens)
        self.money.settle(call.money, money)

    def remember(self, calls: int, tokens: int, money: float, follow_ups: int, age: float) -> None:
        """Count what an exchange of another process cost, so many seconds ago."""
        for budget, amount in ((self.calls, calls), (self.tokens, tokens), (self.money, money), (self.follow_ups, follow_ups)):
            budget.remember(float(amount), age)


def budgets_of(settings: ModelSettings, clock: Clock) -> Budgets:
    """Full budgets, as the settings say."""
    return Budgets(
        calls=HourlyBudget(settings.calls_per_hour, clock),
        tokens=HourlyBudget(settings.tokens_per_hour, clock),
        money=HourlyBudget(settings.money_per_hour, clock),
        follow_ups=HourlyBudget(settings.followups_per_hour, clock),
        rate=RateLimit(settings.calls_per_minute, clock),
    )


def guessed_tokens(text: str) -> float:
    """How many tokens a text has at most, more or less."""
    return math.ceil(len(text) / CHARACTERS_A_TOKEN)
