"""The shapes that roles and engine agree on: a step is `handle(record) -> outputs`; only the loop knows offsets and commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event as Flag
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from infra.core.errors import UnreadableState
from infra.core.settings import Settings
from schemas.events.base import Event
from schemas.plain import Plain

Kept = TypeVar("Kept")
EPOCH = datetime.fromtimestamp(0, UTC)


class Record(NamedTuple):
    """One decoded record. `event` is None for a tombstone; `recorded_at` is the topic's append time; `raw` the value as it was read
    (where the loop fills it in, else empty). Where the step's plan asks for plain data, that is in `plain`, and `event` is None.
    """

    topic: str
    partition: int
    offset: int
    recorded_at: datetime
    key: str
    event: Event | None
    raw: bytes = b""
    plain: Plain | None = None


class Emit(NamedTuple):
    """One output: an event (None: a tombstone) for a topic, its key, and what decides the partition.

    `route` is the subnet key, finding id … that the partition is computed from; `partition` says it outright. `raw` replaces the event
    where a topic holds JSON text.
    """

    topic: str
    key: str
    event: Event | Plain | None = None
    route: str | None = None
    partition: int | None = None
    raw: bytes | None = None


class State(Protocol):
    """The state of one partition of a role: bytes by key, kept in the role's changelog. Reads see the batch's own writes."""

    def get(self, key: str) -> bytes | None:
        """The value, or None."""

    def put(self, key: str, value: bytes) -> None:
        """Set the value; it is in the changelog when the batch is committed."""

    def delete(self, key: str) -> None:
        """Forget the key (a tombstone in the changelog)."""

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Keys with this prefix and their values, in the order of the keys."""


def read_state(key: str, value: bytes, decode: Callable[[bytes], Kept]) -> Kept:
    """What a value of a state says. Raises UnreadableState, which stops the role, where `decode` can make nothing of it."""
    try:
        return decode(value)
    except Exception as error:
        raise UnreadableState(key, error) from error


KeysOf = Callable[[Record], Iterable[str]]
"""What the records of a global table are looked up by, besides their keys. Pure, and always the same one: an index is kept for each.

Of a table whose records stay bytes it is given those, in `raw`, and no event.
"""


class Tables(Protocol):
    """The global tables (`grants`, `inventory`, `intel`, `decisions`, `commands`) as a step sees them: the latest event by key."""

    def table(self, topic: str) -> Mapping[str, Event]:
        """The whole table."""

    def index(self, topic: str, keys_of: KeysOf) -> Mapping[str, Set[str]]:
        """Keys of the table's records by what `keys_of` makes of each, as they are now; made once a worker, then kept up to date."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a step is given beside the record: the partition's state, the global tables, and the partition that it works in."""

    partition: int
    partitions: int
    state: State
    tables: Tables


class Step(Protocol):
    """A pure step of the pipeline. Called with one record at a time, in the order of each partition.

    A record of a global table arrives once for every partition (`record.partition` is the table's own, `context.partition` says for which).
    """

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The outputs of one record. Raises Poison for a record that can't be handled."""


@runtime_checkable
class Glancing(Protocol):
    """A step that can tell by a glance at a record's bytes that `handle` would neither put out nor write anything."""

    def changes_nothing(self, topic: str, value: bytes, state: State) -> bool:
        """True only if the record is sound and handling it now would do nothing. False where in doubt. Raises nothing."""


@runtime_checkable
class Sifting(Protocol):
    """A step that can tell by the bytes of a record of a large global table that it does not concern a partition."""

    def concerns(self, record: Record, context: Context) -> bool:
        """False only if handling the record now would do nothing. Its value is in `raw`, a tombstone has none. Raises nothing."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How the loop runs a step: the role's name, what it reads, where its state is kept.

    `changelog`: topic of the state (None: stateless). `global_tables`: single-partition topics read whole; the changes of those named in
    `global_inputs` are handled as records too. `plain`: the inputs are read as plain data, without models.
    """

    role: str
    inputs: tuple[str, ...]
    changelog: str | None = None
    global_tables: tuple[str, ...] = ()
    global_inputs: tuple[str, ...] = ()
    plain: bool = False


Ready = Callable[[], None]


class Role(Protocol):
    """What `role.py` of every role offers: run until `stop` is set; call `ready` once it can work."""

    def run(self, settings: Settings, stop: Flag, ready: Ready) -> None:
        """Run until `stop` is set, then drain and return. Raises DriftlineError for what a person must mend."""


@dataclass(slots=True)
class MemoryState:
    """State in memory: for tests, for Faust, and as the front of the store on disk."""

    values: dict[str, bytes] = field(default_factory=dict)

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        return self.values.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Set the value."""
        self.values[key] = value

    def delete(self, key: str) -> None:
        """Forget the key."""
        self.values.pop(key, None)

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Keys with this prefix and their values, in the order of the keys."""
        for key in sorted(one for one in self.values if one.startswith(prefix)):
            yield key, self.values[key]


@dataclass(frozen=True, slots=True)
class FixedTables:
    """Global tables from plain mappings: for tests."""

    tables: Mapping[str, Mapping[str, Event]] = field(default_factory=dict)

    def table(self, topic: str) -> Mapping[str, Event]:
        """The whole table."""
        return self.tables.get(topic, {})

    def index(self, topic: str, keys_of: KeysOf) -> Mapping[str, Set[str]]:
        """The index, made anew."""
        made = TableIndex(keys_of)
        for key, event in self.table(topic).items():
            made.change(None, Record(topic, 0, 0, EPOCH, key, event))
        return made.entries


class TableIndex:
    """Keys of a table's records by what `keys_of` makes of each; of a tombstone it makes nothing."""

    def __init__(self, keys_of: KeysOf) -> None:
        self._keys_of = keys_of
        self.entries: dict[str, set[str]] = {}

    def change(self, before: Record | None, after: Record) -> None:
        """Take in that a record came, and took the place of another if there was one with its key."""
        key, new = after.key, frozenset(self._keys_of(after))
        old = frozenset(self._keys_of(before)) if before is not None else frozenset()
        for name in old - new:
            self.entries[name].discard(key)
            if not self.entries[name]:
                del self.entries[name]
        for name in new - old:
            self.entries.setdefault(name, set()).add(key)
