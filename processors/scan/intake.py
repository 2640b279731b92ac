"""The units that this scanner has taken and not yet published, in the order of their partitions. Pure bookkeeping: no Kafka, no clock.

A unit waits, runs, is done. Units of one subnet run one at a time and in their order. What is done waits until everything before it in
its partition is done, so that offsets are committed in order. So a unit that must not start yet holds back the start of its own subnet's
units only, but the publishing of all that is behind it in its partition: the planner allows it a delay of two minutes at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from itertools import takewhile

from confluent_kafka import Message

from processors.scan.partial import Outcome
from schemas.events.targets import WorkUnit
from schemas.ids import subnet_key


class Stage(Enum):
    """What becomes of a taken unit."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"


@dataclass(slots=True, eq=False)
class Entry:
    """One record of `work.<zone>`. `unit` is None where it could not be decoded; `taken_at` is uptime in seconds."""

    partition: int
    offset: int
    message: Message
    unit: WorkUnit | None
    taken_at: float
    stage: Stage = Stage.WAITING
    attempt: int = 1
    outcome: Outcome | None = None

    @property
    def subnet(self) -> str:
        """The key of the subnet; one unit of it runs at a time."""
        return subnet_key(self.unit.zone, self.unit.subnet) if self.unit else ""

    def finish(self, outcome: Outcome) -> None:
        """What is to be published for it is known."""
        self.stage, self.outcome = Stage.DONE, outcome


@dataclass(slots=True)
class Backlog:
    """Taken units by partition, oldest first. `room` is how many of all partitions together are meant to be held."""

    room: int
    queues: dict[int, deque[Entry]] = field(default_factory=dict)
    _turn: int = 0

    def assign(self, partitions: Iterable[int]) -> None:
        """These partitions are ours now, and nothing of them is taken yet."""
        for number in partitions:
            self.queues[number] = deque()

    def drop(self, partitions: Iterable[int]) -> list[Entry]:
        """Forget these partitions; returns what was held of them."""
        return [entry for number in partitions for entry in self.queues.pop(number, ())]

    def add(self, entry: Entry) -> None:
        """Take a record. Raises KeyError for a partition that is not ours."""
        self.queues[entry.partition].append(entry)

    def full(self, partition: int) -> bool:
        """Whether this partition should be paused: it holds its part of the room (each may hold two)."""
        return len(self.queues[partition]) >= max(2, self.room // max(1, len(self.queues)))

    def count(self, stage: Stage) -> int:
        """How many records are at this stage."""
        return sum(entry.stage is stage for queue in self.queues.values() for entry in queue)

    def running(self) -> Iterator[Entry]:
        """The units in work."""
        return (entry for queue in self.queues.values() for entry in queue if entry.stage is Stage.RUNNING)

    def startable(self, now: datetime, room: int, may_start: Callable[[Entry], bool]) -> list[Entry]:
        """Up to `room` units to start now, the partitions taking turns."""
        found: list[Entry] = []
        numbers = sorted(self.queues)
        self._turn += 1
        turned = [numbers[(index + self._turn) % len(numbers)] for index in range(len(numbers))]
        candidates = [self._candidates(self.queues[number], now, may_start) for number in turned]
        while candidates and len(found) < room:
            candidates = [one for one in candidates if _next_into(one, found, room)]
        return found

    def ready(self) -> Iterator[Entry]:
        """What can be published now: the oldest records of each partition as far as they are done, in their order."""
        for queue in self.queues.values():
            yield from takewhile(lambda entry: entry.stage is Stage.DONE, queue)

    def forget(self, entries: Iterable[Entry]) -> None:
        """These were published: they are the oldest of their partitions."""
        for entry in entries:
            queue = self.queues.get(entry.partition)
            if queue and queue[0] is entry:
                queue.popleft()

    def _candidates(self, queue: deque[Entry], now: datetime, may_start: Callable[[Entry], bool]) -> Iterator[Entry]:
        busy: set[str] = set()
        for entry in queue:
            if entry.stage is Stage.DONE or entry.unit is None:
                continue
            held = entry.unit.not_before is not None and now < entry.unit.not_before
            if entry.stage is Stage.WAITING and entry.subnet not in busy and not held and may_start(entry):
                yield entry
            busy.add(entry.subnet)


def _next_into(candidates: Iterator[Entry], found: list[Entry], room: int) -> bool:
    """Move one candidate over, if there is one and room for it."""
    entry = next(candidates, None) if len(found) < room else None
    if entry is not None:
        found.append(entry)
    return entry is not None
