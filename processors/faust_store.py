"""A Faust table's store in memory that keeps partitions apart, as the transactional loop does: a key may stand in several of them.

Faust's own store holds the keys of all partitions of a worker together; a step that keeps an index in each partition (the correlator
does) would there take one partition's for another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from faust import current_event
from faust.stores import STORES
from faust.stores.base import Store

SCHEME = "partitions"


class PartitionedStore(Store):  # type: ignore[misc]
    """What a table holds, by partition. A stream sees the partition of the record that it works on."""

    def __post_init__(self) -> None:
        self._parts: dict[int, dict[Any, Any]] = {}

    @property
    def data(self) -> MutableMapping[Any, Any]:
        """The keys and values of the partition at work. Raises RuntimeError outside a stream."""
        event = current_event()
        if event is None:
            raise RuntimeError("a partitioned table can only be used while a record is worked on")
        return self._parts.setdefault(event.message.partition, {})

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]) -> None:
        """Take in records of the changelog."""
        for event in batch:
            part = self._parts.setdefault(event.message.partition, {})
            if event.message.value is None:
                part.pop(to_key(event.key), None)
            else:
                part[to_key(event.key)] = to_value(event.value)

    async def on_recovery_completed(self, active_tps: Iterable[Any], standby_tps: Iterable[Any]) -> None:
        """Forget the partitions that are another worker's now."""
        ours = {one.partition for one in active_tps}
        self._parts = {number: part for number, part in self._parts.items() if number in ours}

    def persisted_offset(self, tp: Any) -> int | None:
        """Nothing is kept on the disk."""
        return None

    def reset_state(self) -> None:
        """Nothing is kept on the disk."""

    async def backup_partition(self, tp: Any, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        """Nothing is kept on the disk."""

    def restore_backup(self, tp: Any, latest: bool = True, backup_id: int = 0) -> None:
        """Nothing is kept on the disk."""


def partitioned() -> str:
    """The `store` of a table that keeps partitions apart."""
    STORES.aliases.setdefault(SCHEME, f"{__name__}:{PartitionedStore.__name__}")
    return f"{SCHEME}://memory"  # without a host yarl calls it empty, and Faust takes its own
