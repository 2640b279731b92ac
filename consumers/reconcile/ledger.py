"""What the log says must stand in ClickHouse, and what a comparison finds. Pure.

It counts records as a consumer of committed records sees them: never offsets, of which transaction markers and aborted records take some.
A row is known by a hash of its key: the first 8 bytes of MD5, which is ClickHouse's `halfMD5`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Place = tuple[str, int, int]
"""Topic, partition, offset of a record."""
SEPARATOR = "\x1f"

# What each row is known by. Of the same key there may be several versions; a reader with FINAL sees one row.
KEYS: dict[str, tuple[str, ...]] = {
    "sweeps": ("unit_id", "transport"),
    "observations": ("observation_id", "transport", "port"),
    "touches": ("record_id", "number"),
    "assets": ("zone", "address"),
    "services": ("zone", "address", "transport", "port"),
    "changes": ("change_id",),
    "exposures": ("zone", "finding_id", "exposure_id"),
    "findings": ("zone", "finding_id"),
    "runs": ("zone", "run_id"),
    "agents": ("agent_id",),
    "rollups": ("name", "zone", "kind", "window_start"),
    "audit": ("audit_id",),
}
TABLES: dict[str, tuple[str, ...]] = {
    "probes": ("sweeps", "observations"),
    "assets": ("assets", "services"),
    **{one: (one,) for one in ("touches", "changes", "exposures", "findings", "runs", "agents", "rollups", "audit")},
}


def key_hash(table: str, row: Mapping[str, Any]) -> int:
    """The hash that a row is known by."""
    text = SEPARATOR.join(str(milliseconds(row[name]) if isinstance(row[name], datetime) else row[name]) for name in KEYS[table])
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:8], "big")


def milliseconds(moment: datetime) -> int:
    """Since 1970."""
    return round(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many rows of a table are missing, stand more than once without FINAL (a merge takes them away), or were written by nobody."""

    table: str
    compared: int
    loss: int = 0
    doubles: int = 0
    unknown: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing is missing and nothing unknown. Doubles alone are no fault: a crash between insert and commit makes some."""
        return not (self.loss or self.unknown)


@dataclass(slots=True)
class Totals:
    """Of one partition, since the start: the next offset, records and rows."""

    next_offset: int = 0
    records: int = 0
    rows: int = 0


@dataclass(slots=True)
class _Entry:
    place: Place
    at: int
    hashes: tuple[tuple[str, int], ...]
    decoded: bool


@dataclass(slots=True)
class Ledger:
    """The records of the last `window_ms`, at most `most` rows of each topic; older ones are forgotten, the oldest first.

    A record of which no row came counts as a row.
    """

    window_ms: int
    most: int
    totals: dict[tuple[str, int], Totals] = field(default_factory=dict)
    _entries: dict[str, list[_Entry]] = field(default_factory=dict)
    _letters: dict[Place, int] = field(default_factory=dict)
    _begins: dict[str, int] = field(default_factory=dict)

    def note(self, place: Place, at: int, rows: Iterable[tuple[str, Mapping[str, Any]]] | None) -> None:
        """A record, appended `at` (milliseconds), and the rows that it becomes; None if it can't be decoded."""
        hashes = tuple((table, key_hash(table, row)) for table, row in rows or ())
        totals = self.totals.setdefault(place[:2], Totals())
        totals.next_offset, totals.records, totals.rows = place[2] + 1, totals.records + 1, totals.rows + len(hashes)
        self._entries.setdefault(place[0], []).append(_Entry(place, at, hashes, rows is not None))

    def note_letter(self, place: Place, at: int) -> None:
        """A record was set aside (`at`, milliseconds): its rows may be there or not, since each reader of a topic sets aside for itself."""
        self._letters[place] = at

    def forget(self, now: int) -> None:
        """Drop what is older than the window, and the oldest above the limit."""
        for topic, entries in self._entries.items():
            begin, held = max(self._begins.get(topic, 0), now - self.window_ms), 0
            for entry in sorted(entries, key=lambda one: one.at, reverse=True):
                held += max(1, len(entry.hashes))
                if held > self.most:
                    begin = max(begin, entry.at + 1)
                    break
            self._begins[topic] = begin
            entries[:] = [one for one in entries if one.at >= begin]
        oldest = now - self.window_ms
        self._letters = {place: at for place, at in self._letters.items() if at >= self._begins.get(place[0], oldest)}

    def begin(self, topic: str, started: int) -> int:
        """From when on all records of a topic are held."""
        return max(started, self._begins.get(topic, 0))

    def due(self, table: str, topic: str, first: int, last: int) -> tuple[set[int], set[int]]:
        """Hashes of rows of records appended from `first` to before `last` (milliseconds): those that must stand, and those that may."""
        must, may = set[int](), set[int]()
        for entry in self._entries.get(topic, ()):
            if first <= entry.at < last:
                (may if entry.place in self._letters else must).update(one for name, one in entry.hashes if name == table)
        return must, may - must

    def letters_missing(self, topic: str, last: int) -> int:
        """Records that can't be decoded, appended before `last`, of which no letter is on the DLQ."""
        return sum(not one.decoded and one.at < last and one.place not in self._letters for one in self._entries.get(topic, ()))


def judge(table: str, due: tuple[set[int], set[int]], there: set[int], since: set[int], copies: int) -> Verdict:
    """Compare what is due with the rows of that time (`there`), those of that time or later (`since`), and how many are copies."""
    must, may = due
    return Verdict(table, len(must), len(must - since), copies, len(there - must - may))


def summary(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """A sentence for each table that is not as it should be."""
    for one in verdicts:
        if not one.clean:
            yield f"{one.table}: {one.loss} rows missing, {one.unknown} written by nobody, of {one.compared}"
