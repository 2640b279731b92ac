"""How fast packets may leave. Pure token buckets: `(bucket, now) -> wait`, `(bucket, now) -> bucket`; seconds, and packets a second.

Politeness is by place: a scanner, a grant, a unit (its subnet) and a host have a bucket each, and a packet needs a token from all of
them. The total of a grant holds for its zone, not for one scanner. Partitions divide a zone's subnets among its scanners, so each
scanner takes the share of the total that its partitions are of all: the shares never exceed the total, and no scanner asks another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BURST_SECONDS = 0.05  # beside one packet, the tokens of so long pile up: what a late wake-up of a timer may catch up


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens at a moment. `burst` is the most that may leave at once; `tokens` below 0 is a debt that time pays back."""

    rate: float
    burst: float
    tokens: float
    at: float


def bucket(rate: float, now: float) -> Bucket:
    """A full bucket. Raises ValueError for a rate that is not above 0."""
    if rate <= 0:
        raise ValueError(f"a rate of {rate} packets a second would wait for ever")
    burst = 1.0 + rate * BURST_SECONDS
    return Bucket(rate, burst, burst, now)


def filled(one: Bucket, now: float) -> Bucket:
    """The bucket with the tokens that came since. A clock that stood still or went back adds none."""
    passed = max(0.0, now - one.at)
    return replace(one, tokens=min(one.burst, one.tokens + passed * one.rate), at=max(now, one.at))


def wait(one: Bucket, now: float, packets: int) -> float:
    """Seconds until `packets` may leave together. More than a burst may leave once the bucket is full, and puts it in debt."""
    missing = min(float(packets), one.burst) - filled(one, now).tokens
    return max(0.0, missing / one.rate)


def spend(one: Bucket, now: float, packets: int) -> Bucket:
    """The bucket after `packets` left."""
    now_filled = filled(one, now)
    return replace(now_filled, tokens=now_filled.tokens - packets)


def with_rate(one: Bucket, rate: float, now: float) -> Bucket:
    """The bucket at another rate from now on: what was spent stays spent."""
    if rate == one.rate:
        return one
    fresh = bucket(rate, now)
    return replace(fresh, tokens=min(fresh.burst, filled(one, now).tokens))


def share(total: float, owned: int, partitions: int) -> float:
    """This scanner's part of a zone's total: partitions owned of all partitions."""
    return total * min(max(owned, 1), partitions) / partitions
