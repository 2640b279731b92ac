"""A Kafka broker in memory, as far as the engine can tell the difference: logs, transactions, groups. Pure, but for the clock it is given.

Modelled: a transaction's records and offsets become visible at once or never; markers take offsets; a reader of committed records stops at
the first open transaction; a producer is fenced by its successor and by the transaction's timeout; a group's offsets are refused from
who is not of its generation, and unstable while a transaction holds them; rebalances are eager, by range. Not modelled: replication,
compaction, retention, message formats. `tests/integration/test_broker_conformance.py` holds it against a real broker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from confluent_kafka import KafkaError, KafkaException

Place = tuple[str, int]
TRANSACTION_SECONDS = SESSION_SECONDS = 10.0


def fail(code: int, reason: str, *, retriable: bool = False, abort: bool = False, fatal: bool = False) -> NoReturn:
    """Raise what a client of librdkafka raises."""
    raise KafkaException(KafkaError(code, reason, fatal=fatal, retriable=retriable, txn_requires_abort=abort))


@dataclass(slots=True)
class Entry:
    """One offset of a log: a record, or the marker that ends a transaction (`value` and `key` None, `marker` set)."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]
    at: float
    owner: str | None = None
    fate: str = "committed"
    marker: bool = False


@dataclass(slots=True)
class Log:
    """A partition."""

    entries: list[Entry] = field(default_factory=list)
    open: dict[str, int] = field(default_factory=dict)

    @property
    def stable(self) -> int:
        """Where a reader of committed records has to stop."""
        return min(self.open.values(), default=len(self.entries))

    def committed(self) -> Iterator[tuple[int, Entry]]:
        """Offset and entry of all that such a reader is given."""
        for offset, entry in enumerate(self.entries[: self.stable]):
            if not entry.marker and entry.fate == "committed":
                yield offset, entry


@dataclass(slots=True)
class Transaction:
    """What the coordinator knows of a transactional id."""

    epoch: int = 0
    open: bool = False
    since: float = 0.0
    places: set[Place] = field(default_factory=set)
    offsets: dict[tuple[str, Place], int] = field(default_factory=dict)
    ending: tuple[str, float] | None = None
    """Decided, but its markers are not written before this moment."""


@dataclass(slots=True)
class Member:
    """A consumer in a group. `heard` is its last heartbeat, `generation` that of its assignment."""

    topics: frozenset[str]
    heard: Callable[[], float]
    generation: int = -1
    assigned: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """A consumer group. While it rebalances nobody owns anything new; `joined` are the members that gave up the old."""

    generation: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)
    rebalancing: bool = False
    offsets: dict[Place, int] = field(default_factory=dict)


class Broker:
    """All logs, transactions and groups. `news` grows with each change that a waiting client may want to know of."""

    def __init__(self, topics: Mapping[str, int], now: Callable[[], float], delay: Callable[[], float] = lambda: 0.0) -> None:
        self._delay = delay
        self._now, self._topics = now, dict(topics)
        self.logs: dict[Place, Log] = {(topic, number): Log() for topic, count in topics.items() for number in range(count)}
        self.transactions: defaultdict[str, Transaction] = defaultdict(Transaction)
        self.groups: defaultdict[str, Group] = defaultdict(Group)
        self.news = 0

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises KafkaException for an unknown one."""
        if topic not in self._topics:
            fail(KafkaError.UNKNOWN_TOPIC_OR_PART, topic)
        return self._topics[topic]

    def append(
        self,
        place: Place,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, str | bytes | None]] = (),
        owner: tuple[str, int] | None = None,
    ) -> int:
        """Add a record, of a transaction if it has an owner (transactional id and epoch). Returns its offset."""
        if place not in self.logs:
            fail(KafkaError.UNKNOWN_TOPIC_OR_PART, place[0])
        log = self.logs[place]
        if owner is None:
            log.entries.append(Entry(key, value, list(headers), self._now()))
        else:
            self._join(owner).places.add(place)
            log.open.setdefault(owner[0], len(log.entries))
            log.entries.append(Entry(key, value, list(headers), self._now(), owner[0], "open"))
        self.news += 1
        return len(log.entries) - 1

    def start(self, name: str) -> int:
        """A new producer of this transactional id: its predecessor's transaction is aborted and he is fenced. Returns the epoch."""
        transaction = self.transactions[name]
        self._end(name, transaction.ending[0] if transaction.ending else "aborted")
        transaction.epoch += 1
        return transaction.epoch

    def add_offsets(self, owner: tuple[str, int], group: tuple[str, int, str], offsets: Mapping[Place, int]) -> None:
        """Let a transaction carry consumed offsets of a group (name, generation, member)."""
        transaction = self._join(owner)
        self._check_member(group, abort=True)
        transaction.offsets.update({(group[0], place): offset for place, offset in offsets.items()})

    def end(self, owner: tuple[str, int], fate: str) -> None:
        """Commit or abort; the last one's markers come first. One that never reached the broker ends as well."""
        if owner[1] != self.transactions[owner[0]].epoch:
            fail(KafkaError._FENCED, "fenced", fatal=True)
        transaction = self.transactions[owner[0]]
        if transaction.ending is not None:
            self._end(owner[0], transaction.ending[0])
        if transaction.open:
            transaction.ending = fate, self._now() + self._delay()

    def tick(self) -> None:
        """Write markers that are due, abort transactions that are too old, put out members that were silent for too long."""
        for name, transaction in self.transactions.items():
            if transaction.ending is not None:
                if self._now() >= transaction.ending[1]:
                    self._end(name, transaction.ending[0])
            elif transaction.open and self._now() - transaction.since > TRANSACTION_SECONDS:
                self._end(name, "aborted")
                transaction.epoch += 1
        for group in self.groups.values():
            gone = [name for name, member in group.members.items() if self._now() - member.heard() > SESSION_SECONDS]
            for name in gone:
                self._remove(group, name)

    def join(self, group_name: str, name: str, topics: Sequence[str], heard: Callable[[], float]) -> None:
        """A consumer subscribes."""
        group = self.groups[group_name]
        group.members[name] = Member(frozenset(topics), heard)
        self._rebalance(group)

    def leave(self, group_name: str, name: str) -> None:
        """A consumer closes."""
        if name in self.groups[group_name].members:
            self._remove(self.groups[group_name], name)

    def rejoin(self, group_name: str, name: str) -> None:
        """A member gave up what it had. When all have, the group goes on with a new generation."""
        group = self.groups[group_name]
        group.joined.add(name)
        self._settle(group)

    def store_offsets(self, group: tuple[str, int, str], offsets: Mapping[Place, int]) -> None:
        """Commit consumed offsets outside any transaction."""
        self._check_member(group, abort=False)
        self.groups[group[0]].offsets.update(offsets)
        self.news += 1

    def committed(self, group_name: str, place: Place) -> int | None:
        """Where a group stands, None for nowhere. Raises KafkaException while a transaction holds the answer."""
        if any((group_name, place) in one.offsets for one in self.transactions.values() if one.open):
            fail(KafkaError.UNSTABLE_OFFSET_COMMIT, "a transaction holds it", retriable=True)
        return self.groups[group_name].offsets.get(place)

    def _join(self, owner: tuple[str, int]) -> Transaction:
        transaction = self.transactions[owner[0]]
        if owner[1] != transaction.epoch:
            fail(KafkaError._FENCED, "fenced", fatal=True)
        if transaction.ending is not None:  # its client waits for the last one's markers
            self._end(owner[0], transaction.ending[0])
        if not transaction.open:
            transaction.open, transaction.since = True, self._now()
        return transaction

    def _end(self, name: str, fate: str) -> None:
        transaction = self.transactions[name]
        for place in transaction.places:
            log = self.logs[place]
            for entry in log.entries[log.open.pop(name, 0) :]:
                if entry.owner == name and entry.fate == "open":
                    entry.fate = fate
            log.entries.append(Entry(None, None, [], self._now(), name, fate, marker=True))
        if fate == "committed":
            for (group, place), offset in transaction.offsets.items():
                self.groups[group].offsets[place] = offset
        transaction.open, transaction.ending = False, None
        transaction.places.clear()
        transaction.offsets.clear()
        self.news += 1

    def _check_member(self, group: tuple[str, int, str], *, abort: bool) -> None:
        name, generation, member = group
        known = self.groups[name].members.get(member)
        if known is None:
            fail(KafkaError.UNKNOWN_MEMBER_ID, "not a member", abort=abort)
        if known.generation != generation or generation != self.groups[name].generation:
            fail(KafkaError.ILLEGAL_GENERATION, "of another generation", abort=abort)

    def _remove(self, group: Group, name: str) -> None:
        del group.members[name]
        group.joined.discard(name)
        self._rebalance(group)

    def _rebalance(self, group: Group) -> None:
        if not group.rebalancing:
            group.rebalancing = True
            group.joined.clear()
        self._settle(group)
        self.news += 1

    def _settle(self, group: Group) -> None:
        if group.joined < set(group.members) or not group.members:
            return
        group.generation += 1
        group.rebalancing = False
        names = sorted(group.members)
        for name in names:
            group.members[name].generation, group.members[name].assigned = group.generation, []
        for topic in sorted({topic for member in group.members.values() for topic in member.topics}):
            takers = [name for name in names if topic in group.members[name].topics]
            share, more = divmod(self.partitions(topic), len(takers))
            first = 0
            for place, name in enumerate(takers):
                count = share + (place < more)
                group.members[name].assigned += [(topic, number) for number in range(first, first + count)]
                first += count
        self.news += 1
