"""An index of a global table that followed its changes is the one that would be made anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.core.ports import EPOCH, FixedTables, Record, TableIndex
from schemas.events.base import Event
from schemas.events.context import InventoryRecord

KEYS = st.sampled_from(["a", "b", "c"])
TAGS = st.lists(st.sampled_from(["x", "y", "z"]), max_size=3).map(tuple)


def tags_of(record: Record) -> tuple[str, ...]:
    return record.event.tags if isinstance(record.event, InventoryRecord) else ()


@given(st.lists(st.tuples(KEYS, st.one_of(st.none(), TAGS)), max_size=12))
def test_an_index_that_followed_changes_is_one_made_anew(changes: list[tuple[str, tuple[str, ...] | None]]) -> None:
    table: dict[str, Event] = {}
    latest: dict[str, Record] = {}
    index = TableIndex(tags_of)
    for key, tags in changes:
        event = None if tags is None else InventoryRecord(network="198.18.0.0/24", tags=tags)
        record = Record("inventory", 0, 0, EPOCH, key, event)
        index.change(latest.get(key), record)
        latest[key] = record
        table.pop(key, None)
        if event is not None:
            table[key] = event
    assert index.entries == FixedTables({"inventory": table}).index("inventory", tags_of)
