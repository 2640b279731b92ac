"""How fast packets may leave. Pure token buckets: `(bucket, now) -> wait`, `(bucket, now) -> bucket`; seconds, and packets a second.

Politeness is by place: a scanner, a grant, a unit (its subnet) and a host have a bucket each, and a packet needs a token from all of
them. The total of a grant holds for its zone, not for one scanner. Partitions divide a zone's subnets among its scanners, so each
scanner takes the share of the total that its partitions are of all: the shares never exceed the total, and no scanner asks another.
Zones that may look at the same host share what a unit and a host may get: the planner divides it by their number.
"""

from __future__ import annotations

from typing import NamedTuple

BURST_SECONDS = 0.05  # the tokens of so long pile up (at least one): what a late wake-up of a timer may catch up
MARGIN = 0.985  # of a limit is what is filled in, so that with a burst and late timers no second holds more than 1.05 of the limit


class Bucket(NamedTuple):
    """Tokens at a moment. `rate` is what comes in a second, a little below the limit; `burst` is the most that may leave at once.

    `tokens` below 0 is a debt that time pays back.
    """

    rate: float
    burst: float
    tokens: float
    at: float


def bucket(limit: float, now: float) -> Bucket:
    """A full bucket for a limit in packets a second. Raises ValueError for a limit that is not above 0."""
    if limit <= 0:
        raise ValueError(f"a rate of {limit} packets a second would wait for ever")
    burst = max(1.0, limit * BURST_SECONDS)
    return Bucket(limit * MARGIN, burst, burst, now)


def filled(one: Bucket, now: float) -> Bucket:
    """The bucket with the tokens that came since. A clock that stood still or went back adds none."""
    passed = max(0.0, now - one.at)
    return Bucket(one.rate, one.burst, min(one.burst, one.tokens + passed * one.rate), max(now, one.at))


def wait(one: Bucket, now: float, packets: int) -> float:
    """Seconds until `packets` may leave together. More than a burst may leave once the bucket is full, and puts it in debt."""
    missing = min(float(packets), one.burst) - filled(one, now).tokens
    return max(0.0, missing / one.rate)


def spend(one: Bucket, now: float, packets: int) -> Bucket:
    """The bucket after `packets` left."""
    rate, burst, tokens, at = filled(one, now)
    return Bucket(rate, burst, tokens - packets, at)


def with_limit(one: Bucket, limit: float, now: float) -> Bucket:
    """The bucket at another limit from now on: what was spent stays spent."""
    fresh = bucket(limit, now)
    if fresh.rate == one.rate:
        return one
    return fresh._replace(tokens=min(fresh.burst, filled(one, now).tokens))


def share(total: float, owned: int, partitions: int) -> float:
    """This scanner's part of a zone's total: partitions owned of all partitions."""
    return total * min(max(owned, 1), partitions) / partitions
