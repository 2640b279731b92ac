"""Up to when each partition's records are written: what the view `watermarks` tells. Pure.

Two things move it: a written record (all that Kafka appended before it is written, since the log is read in order), and a look at the
end of a partition of which nothing is left to write (nothing was appended until that look, open transactions included).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

Place = tuple[str, int]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The look is timed by this machine, records by the broker's: so far may their clocks differ, and a follower lag.
CLOCKS_AGREE = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Mark:
    """Every record of this partition that Kafka appended before `complete_to` is written."""

    topic: str
    partition: int
    next_offset: int
    complete_to: datetime


@dataclass(slots=True)
class Progress:
    """How far this worker is in the partitions that it owns."""

    _next: dict[Place, int] = field(default_factory=dict)
    _complete: dict[Place, datetime] = field(default_factory=dict)
    _news: set[Place] = field(default_factory=set)

    def take(self, places: Iterable[Place]) -> None:
        """These partitions are ours now. Nothing is known of them yet, and that must be told: a topic is as complete as its worst."""
        for place in places:
            if place not in self._complete:
                self._complete[place] = EPOCH
                self._news.add(place)

    def drop(self, places: Iterable[Place]) -> None:
        """These are not ours any more."""
        for place in places:
            self._next.pop(place, None)
            self._complete.pop(place, None)
            self._news.discard(place)

    def written(self, place: Place, next_offset: int, recorded_at: datetime) -> None:
        """All records before `next_offset` are written; the last of them was appended at `recorded_at`."""
        self._next[place] = max(next_offset, self._next.get(place, 0))
        self._move(place, recorded_at)

    def at_end(self, place: Place, offset: int) -> None:
        """All is written, and behind it nothing was left to read before `offset` (a transaction's marker has an offset too)."""
        self._next[place] = max(offset, self._next.get(place, 0))

    def compare(self, ends: Mapping[Place, int], asked_at: datetime) -> None:
        """Partitions ended here (uncommitted records included) when they were asked about, not before `asked_at`."""
        for place, end in ends.items():
            if place in self._next and self._next[place] >= end:
                self._move(place, asked_at - CLOCKS_AGREE)

    def news(self) -> list[Mark]:
        """What is not told yet."""
        return [Mark(*place, self._next.get(place, 0), self._complete[place]) for place in sorted(self._news)]

    def told(self) -> None:
        """The news are written."""
        self._news.clear()

    def left(self, ends: Mapping[Place, int]) -> int:
        """How many offsets lie between what is written and these ends."""
        return sum(max(0, end - self._next[place]) for place, end in ends.items() if place in self._next)

    def _move(self, place: Place, moment: datetime) -> None:
        if place in self._complete and moment > self._complete[place]:
            self._complete[place] = moment
            self._news.add(place)
