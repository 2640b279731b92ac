"""When a sweep goes slower than its budget allows: when going fast makes it find less. Pure.

Losses among checks (ports that had answered, asked again), or answers that the kernel had no room for, halve the rate. Where half the
rate does not lose clearly less, it is not the rate that loses: then the sweep goes on at full speed, and more attempts have to do.
Without losses the rate grows back. So it is the additive-increase, multiplicative-decrease of Chiu and Jain (1989) with an exit.
"""

from __future__ import annotations

from dataclasses import dataclass

from processors.scan.scope.pacing import Bucket, bucket, filled, spend, wait, with_limit

BAD_LOSS = 0.02
LEAST_LOST = 2
CLEARLY_LESS = 0.7
GROWTH = 1.25
LEAST_RATE = 10.0
LEAST_SPAN = 1e-3


@dataclass(frozen=True, slots=True)
class Throttle:
    """The rate that is kept (packets a second; None: the budget's own), and the losses that are put up with as none of the rate's doing."""

    rate: float | None = None
    before: float | None = None
    tolerated: float = BAD_LOSS

    def after(self, checked: int, lost: int, drops: int, going: float) -> Throttle:
        """The throttle after a round of checks and so many dropped answers, at a rate of `going` packets a second."""
        if drops:
            return Throttle(max(LEAST_RATE, going / 2), None, self.tolerated)
        if not checked:
            return self
        loss = lost / checked
        if lost < LEAST_LOST or loss <= self.tolerated:
            return Throttle(self.rate and self.rate * GROWTH, None, self.tolerated)
        if self.before is not None and loss > CLEARLY_LESS * self.before:
            return Throttle(None, None, 2 * max(loss, self.before))
        return Throttle(max(LEAST_RATE, going / 2), loss, self.tolerated)


class Reins:
    """A throttle at work: how many packets may leave now, beside what the budgets allow. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self.throttle = Throttle()
        self._bucket: Bucket | None = None
        self._sent = 0  # since the last judgement, and between which moments: waiting for answers is no slowness
        self._first = self._last = 0.0

    def pause(self, now: float) -> float:
        """Seconds until a packet may leave."""
        return wait(self._bucket, now, 1) if self._bucket else 0.0

    def most(self, now: float) -> int | None:
        """How many may leave at once (at least one); None: as many as the budgets allow."""
        return None if self._bucket is None else max(1, int(filled(self._bucket, now).tokens))

    def left(self, count: int, now: float) -> None:
        """Note that so many left. What the budgets held back has not: it says nothing of how fast the sweep is going."""
        if self._bucket is not None:
            self._bucket = spend(self._bucket, now, count)
        self._first = self._first if self._sent else now
        self._sent, self._last = self._sent + count, now

    def judge(self, checked: int, lost: int, drops: int, now: float) -> None:
        """Go on faster or slower after what a check showed."""
        going = self._sent / max(self._last - self._first, LEAST_SPAN)
        self._sent = 0
        self.throttle = self.throttle.after(checked, lost, drops, going)
        rate = self.throttle.rate
        self._bucket = None if rate is None else with_limit(self._bucket, rate, now) if self._bucket else bucket(rate, now)
