"""Verdicts that are asked for again and again: records made ready once, and the verdict on what many services show alike. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Set

from processors.match.evidence import Seen
from processors.match.matching import Known, Match, known, match
from processors.match.rulings import Verdict
from schemas.events.base import Event
from schemas.events.intel import IntelRecord

MOST_RECORDS = 4096
MOST_VERDICTS = 1 << 16  # some 40 MB


class Matcher:
    """Holds services against records of `intel`."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._verdicts: OrderedDict[tuple[str, Seen], tuple[IntelRecord, Match | None]] = OrderedDict()

    def match(self, seen: Seen, record: IntelRecord) -> Match | None:
        """The verdict; None where the record names nothing that the service shows."""
        key = record.cve, seen
        kept = self._verdicts.get(key)
        if kept is not None and kept[0] is record:
            self._verdicts.move_to_end(key)
            return kept[1]
        found = match(seen, self._ready(record))
        self._verdicts[key] = record, found
        if len(self._verdicts) > MOST_VERDICTS:
            self._verdicts.popitem(last=False)
        return found

    def _ready(self, record: IntelRecord) -> Known:
        ready = self._known.get(record.cve)
        if ready is None or ready.record is not record:
            ready = self._known[record.cve] = known(record)
            if len(self._known) > MOST_RECORDS:
                self._known.popitem(last=False)
        self._known.move_to_end(record.cve)
        return ready

    def matches(self, seen: Seen, index: Mapping[str, Set[str]], table: Mapping[str, Event]) -> list[Match]:
        """The verdicts on all records that an index by `keys_of` names for the service, in the order of their CVEs."""
        records = [table.get(cve) for cve in sorted({cve for key in seen.keys for cve in index.get(key, ())})]
        found = (self.match(seen, one) for one in records if isinstance(one, IntelRecord))
        return [one for one in found if one is not None]


def telling(found: Iterable[Match]) -> tuple[Match, ...]:
    """The verdicts that are worth a finding: without those that say no, and without what rests on next to nothing."""
    return tuple(one for one in found if one.verdict is Verdict.AFFECTED or (one.verdict is Verdict.POSSIBLE and one.confidence >= LEAST))


LEAST = 0.2
"""`possible` below this rests on a product's name alone: no version was seen, or the record names none."""
