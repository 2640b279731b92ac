"""What a feed changes in the table of `intel`: pure, from the records that stand and the feed's statements.

A statement that is older than what its feed is known to have said changes nothing; one that says the same with a later date neither,
so that a source's `as_of` is since when it says so. What a snapshot no longer lists loses that feed's statement. A rejected CVE goes
whole, whatever else is said of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.intel.joining import OWN, combined, feeds_in, nothing_left, says_the_same, split
from producers.intel.kev import withdrawn
from producers.intel.statements import Fields, Rejected

Record = Mapping[str, Any]


def taken_in(held: Record | None, statement: Fields | Rejected) -> Record | None:
    """The record that stands after a feed's statement: `held` itself where nothing changes, None where nothing is left."""
    if isinstance(statement, Rejected):
        return None if held is None or _updated(held) <= statement.as_of else held
    if held is None:
        return statement
    parts: dict[str, Record] = dict(split(held))
    (feed,) = feeds_in(statement)
    before = parts.get(feed)
    if before is not None and (statement["as_of"] < before["as_of"] or says_the_same(before, statement)):
        return held
    return combined({**parts, feed: statement})


def rescored(head: Record, statement: Fields) -> Fields | None:
    """`taken_in` of an EPSS score, on the first fields of a record alone (up to `sources`); None where nothing changes."""
    (said,) = statement["sources"]
    before = next((one for one in head["sources"] if one["name"] == "epss"), None)
    if before is not None and (said["as_of"] < before["as_of"] or all(head[name] == statement[name] for name in OWN["epss"])):
        return None
    sources = [*(one for one in head["sources"] if one is not before), said]
    scores = {name: statement[name] for name in OWN["epss"]}
    return {**head, **scores, "sources": sources, "as_of": max(one["as_of"] for one in sources)}


def dropped(held: Record, feed: str, as_of: int, url: str = "") -> Record | None:
    """The record after a snapshot of the feed, as of a time, did not list its CVE; `held` itself where that changes nothing."""
    parts: dict[str, Record] = dict(split(held))
    before = parts.pop(feed, None)
    if before is None or before["as_of"] > as_of or (feed == "kev" and before["kev"] is False):
        return held
    if feed == "kev":
        parts[feed] = withdrawn(held["cve"], as_of, url)
    if not parts:
        return None
    record = combined(parts)
    return None if nothing_left(record) else record


def lists(head: Record, feed: str) -> bool:
    """Whether a snapshot feed lists a CVE, by the first fields of its record (up to `epss`)."""
    return head["kev"] is True if feed == "kev" else head["epss"] is not None


def said_at(head: Record, feed: str) -> int:
    """Since when a feed says what it says, by the first fields of a record (up to `sources`); 0 where it says nothing."""
    return next((one["as_of"] for one in head["sources"] if one["name"] == feed), 0)


def _updated(record: Record) -> int:
    """As of when the record's own text (CVE or NVD) is; what was scored or listed only gives way to a rejection."""
    found = record["updated"]
    return found if found is not None else 0
