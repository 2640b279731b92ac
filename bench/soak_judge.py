"""Whether a role stays as it is under a steady load: memory, threads, descriptors flat, lag bounded. Pure: samples in, verdicts out.

Flat: the Theil–Sen slope (the median of the slopes between all pairs of samples, which single jumps don't move; Sen 1968), times the time
that is judged, is at most what is tolerated. The first third of the samples is a start and is not judged.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["memory", "threads", "descriptors", "lag"]
KINDS: tuple[Kind, ...] = ("memory", "threads", "descriptors", "lag")
START_SHARE = 1 / 3
MOST_PAIRS = 200  # samples of a longer series are thinned to so many: pairs grow with the square


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one process. `at` in seconds, memory (resident set) in MB, lag in records."""

    at: float
    memory: float
    threads: int
    descriptors: int
    lag: int


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What may be gained in the judged time: memory as a share of its median, but `memory_mb` in any case; and the most lag at a time."""

    memory_share: float = 0.05
    memory_mb: float = 8.0
    threads: float = 2.0
    descriptors: float = 8.0
    lag: float = 500.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one process gained of something in the judged time (of lag: the most that there was), and what it may."""

    process: str
    kind: Kind
    figure: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it is within what is tolerated."""
        return self.figure <= self.limit


def judge(samples: Mapping[str, Sequence[Sample]], tolerance: Tolerance, others: Mapping[str, Tolerance] | None = None) -> list[Verdict]:
    """Four verdicts a process, by the tolerance of `others` where it is named there.

    Raises ValueError where there are too few samples to tell anything.
    """
    named = others or {}
    return [verdict for process, seen in samples.items() for verdict in _judged(process, seen, named.get(process, tolerance))]


def _judged(process: str, seen: Sequence[Sample], tolerance: Tolerance) -> Iterator[Verdict]:
    steady = seen[int(len(seen) * START_SHARE) :]
    if len(steady) < 5:
        raise ValueError(f"{len(steady)} samples of {process} tell nothing")
    memory = [one.memory for one in steady]
    limit = max(tolerance.memory_mb, tolerance.memory_share * statistics.median(memory))
    yield Verdict(process, "memory", gained(steady, memory), limit)
    yield Verdict(process, "threads", gained(steady, [one.threads for one in steady]), tolerance.threads)
    yield Verdict(process, "descriptors", gained(steady, [one.descriptors for one in steady]), tolerance.descriptors)
    yield Verdict(process, "lag", max(one.lag for one in steady), tolerance.lag)


def gained(seen: Sequence[Sample], values: Sequence[float]) -> float:
    """What the values gained from the first sample to the last, by their Theil–Sen slope."""
    stride = max(1, len(seen) // MOST_PAIRS)
    points = [(one.at, value) for one, value in zip(seen, values, strict=True)][::stride]
    slopes = [(after - before) / (end - begin) for (begin, before), (end, after) in itertools.combinations(points, 2) if end > begin]
    return statistics.median(slopes) * (seen[-1].at - seen[0].at) if slopes else 0.0
