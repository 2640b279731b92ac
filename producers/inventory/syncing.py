"""What a snapshot changes in the inventory: what is set, what is withdrawn, and whether a person must say that it may. Pure.

Which records are a source's is written in the records themselves (`InventoryRecord.source`; docs/adr/0016-inventory-sources.md). A
record of a person or of another source is never overwritten, and never withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from producers.inventory.members import Member
from schemas.events.base import Event
from schemas.events.context import InventoryRecord
from schemas.ids import subnet_key

FIFTH = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write: records by key, keys to withdraw. `others`: members that somebody else speaks for, with who.

    `fresh` are the networks to look at for the first time, or whose expected services are new; `before` and `now` count members.
    """

    records: Mapping[str, InventoryRecord]
    withdrawn: tuple[str, ...]
    others: Mapping[str, str]
    fresh: tuple[str, ...]
    before: int
    now: int

    @property
    def shrank(self) -> bool:
        """Whether the source lost more than a fifth of its members: a person should say that this is meant."""
        return (self.before - self.now) * FIFTH > self.before


def plan(known: Mapping[str, Event], members: Mapping[str, Member], source: str, zone: str, changed_by: str) -> Plan:
    """What makes the inventory say of this source and zone just what the snapshot says. Equal input gives an equal plan."""
    records: dict[str, InventoryRecord] = {}
    others: dict[str, str] = {}
    fresh: list[str] = []
    mine = {key: one for key, one in known.items() if isinstance(one, InventoryRecord) and (one.source, one.zone) == (source, zone)}
    for network, member in sorted(members.items()):
        key = subnet_key(zone, network)
        before = known.get(key)
        if isinstance(before, InventoryRecord) and key not in mine:
            others[network] = before.source or before.changed_by or "a person"
            continue
        record = InventoryRecord(
            zone=zone,
            network=network,
            owner=member.owner,
            criticality=member.criticality,
            tags=member.tags,
            expected=member.expected,
            source=source,
            changed_by=changed_by,
        )
        old = mine.get(key)
        if old is None or old.model_copy(update={"changed_by": changed_by}) != record:
            records[key] = record
        if member.target and (old is None or set(member.expected) - set(old.expected)):
            fresh.append(network)
    wanted = {subnet_key(zone, network) for network in members}
    withdrawn = tuple(sorted(mine.keys() - wanted))
    return Plan(records, withdrawn, others, tuple(fresh), len(mine), len(mine.keys() & wanted) + len(wanted - known.keys()))
