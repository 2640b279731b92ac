"""The state of a stateful role: RocksDB on disk as a cache of the compacted changelog topic, one store a worker.

The changelog is the truth. The store is written after Kafka's commit, in one write batch that also holds the changelog offset
that it stands for; on assignment the changelog is replayed from there. A crash between commit and write costs a few records of
replay, never a wipe.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from infra.core.errors import DamagedState, DriftlineError, MissingPrerequisite

log = structlog.get_logger()
OFFSET = b"\0offset|"
FRONT_BYTES = 96 << 20
"""How much of the state is kept in memory, in front of RocksDB."""
OVERHEAD = 250
"""Bytes that Python needs for an entry beside the value: its key, their heads, its place in the table."""
UNLOGGED = WriteOptions()
UNLOGGED.disable_wal = True
DAMAGE = ("Corruption", "No such file")
"""How RocksDB calls a file that is not what it wrote, or gone. Anything else (a lock, a full disk, rights) throws nothing away."""


class StateStore:
    """One RocksDB for all partitions of a worker; keys carry the partition. Bounded: 8 MB of write buffer, the default block cache."""

    def __init__(self, folder: Path, cluster: str) -> None:
        """Open the store; one that belongs to another cluster is thrown away, since it is only a cache."""
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "cluster"
        self._folder, self._damage = folder, folder / "damaged"
        if mark.exists() and mark.read_text() != cluster:
            self._discard("it is of another cluster")
        elif self._damage.exists():
            self._discard(self._damage.read_text())
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(8 << 20)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_stats_dump_period_sec(0)
        try:
            self._rocks = Rdict(str(folder / "rocks"), options)
        except Exception as error:
            if not _is_damage(error):
                raise MissingPrerequisite(
                    f"The state in {folder} can't be opened ({error}).",
                    "Is another worker with the same slot running? Give each its DRIFTLINE_SLOT.",
                ) from error
            self._discard(str(error))
            self._rocks = Rdict(str(folder / "rocks"), options)
        mark.write_text(cluster)
        self._recent: dict[tuple[int, str], bytes] = {}
        self._older: dict[tuple[int, str], bytes] = {}
        self._bytes = 0

    def offset(self, partition: int) -> int:
        """The next changelog offset to replay from."""
        value = self._read(OFFSET + _prefix(partition))
        return int.from_bytes(value, "big") if value else 0

    def get(self, partition: int, key: str) -> bytes | None:
        """The value of a key, or None."""
        place = partition, key
        value = self._recent.get(place)
        if value is None:
            value = self._older.get(place) or self._read(_prefix(partition) + key.encode())
            if value is not None:
                self._remember(place, value)
        return value

    def _remember(self, place: tuple[int, str], value: bytes) -> None:
        """Keep a value in memory. When the newer half is full it becomes the older one, and what nobody asked for since goes."""
        self._recent[place] = value
        self._bytes += len(value) + OVERHEAD
        if self._bytes > FRONT_BYTES // 2:
            self._recent, self._older, self._bytes = {}, self._recent, 0

    def scan(self, partition: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Keys with this prefix and their values, in the order of the keys."""
        start = _prefix(partition) + prefix.encode()
        strip = len(_prefix(partition))
        entries = iter(self._rocks.items(from_key=start))
        while True:
            try:
                key, value = next(entries, (b"", b""))
            except Exception as error:
                raise self._unusable(error) from error
            if not key.startswith(start):
                return
            yield key[strip:].decode(), value

    def write(self, partition: int, changes: dict[str, bytes | None], offset: int) -> None:
        """Apply changes and the changelog offset that they stand for, in one batch."""
        batch = WriteBatch(raw_mode=True)
        prefix = _prefix(partition)
        for key, value in changes.items():
            place = partition, key
            self._older.pop(place, None)
            self._recent.pop(place, None)
            if value is None:
                batch.delete(prefix + key.encode())
            else:
                batch.put(prefix + key.encode(), value)
                self._remember(place, value)
        batch.put(OFFSET + prefix, offset.to_bytes(8, "big"))
        self._write(batch)

    def restore(self, partition: int, changes: Iterable[tuple[bytes, bytes | None]], offset: int) -> None:
        """As `write`, of many keys and values as the changelog has them; to be followed by `settle` before anything is written.

        Without RocksDB's own log, which would write all of it once more: what a crash loses is replayed, the offset being lost with it.
        """
        batch, prefix = WriteBatch(raw_mode=True), _prefix(partition)
        for key, value in changes:
            if value is None:
                batch.delete(prefix + key)
            else:
                batch.put(prefix + key, value)
        batch.put(OFFSET + prefix, offset.to_bytes(8, "big"))
        self._recent, self._older, self._bytes = {}, {}, 0
        self._write(batch, UNLOGGED)

    def settle(self) -> None:
        """Have on the disk what was restored: later writes are logged, and must not outlive it in a crash."""
        try:
            self._rocks.flush()
        except Exception as error:
            raise self._unusable(error) from error

    def wipe(self, partition: int) -> None:
        """Forget a partition, because its changelog no longer holds what this store stood for."""
        batch = WriteBatch(raw_mode=True)
        for key, _ in self.scan(partition, ""):
            batch.delete(_prefix(partition) + key.encode())
        batch.delete(OFFSET + _prefix(partition))
        self._recent, self._older, self._bytes = {}, {}, 0
        self._write(batch)

    def close(self) -> None:
        """Close the store; its lock goes."""
        self._rocks.close()

    def _read(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._rocks.get(key)
        except Exception as error:
            raise self._unusable(error) from error
        return value

    def _write(self, batch: WriteBatch, options: WriteOptions | None = None) -> None:
        try:
            self._rocks.write(batch, options)
        except Exception as error:
            raise self._unusable(error) from error

    def _unusable(self, reason: Exception) -> DriftlineError:
        """Close the store; if it is damaged, note that it is to be thrown away."""
        self._rocks.close()
        if not _is_damage(reason):
            return DriftlineError(f"The state in {self._folder} can't be used ({reason}).", "Look at the disk; nothing is lost.")
        self._damage.write_text(str(reason))
        return DamagedState(f"The state in {self._folder} is damaged ({reason}).", "It is made anew from its topic at the next start.")

    def _discard(self, reason: str) -> None:
        log.warning("state_discarded", folder=str(self._folder), reason=reason, effect="it is made anew from its topic")
        shutil.rmtree(self._folder / "rocks", ignore_errors=True)
        self._damage.unlink(missing_ok=True)


def _is_damage(reason: Exception) -> bool:
    return any(word in str(reason) for word in DAMAGE)


def _prefix(partition: int) -> bytes:
    return b"%d|" % partition


class PartitionState:
    """The state of one partition as a step sees it: what the store holds, under the writes of the batch, under those of the record."""

    def __init__(self, store: StateStore | None, partition: int) -> None:
        self._store, self._partition = store, partition
        self.batch: dict[str, bytes | None] = {}
        self.record: dict[str, bytes | None] = {}

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        if key in self.record:
            return self.record[key]
        if key in self.batch:
            return self.batch[key]
        return self._store.get(self._partition, key) if self._store else None

    def put(self, key: str, value: bytes) -> None:
        """Set the value."""
        self.record[key] = value

    def delete(self, key: str) -> None:
        """Forget the key."""
        self.record[key] = None

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Keys with this prefix and their values, in the order of the keys; the engine's own keys (first byte 0) are left out."""
        over = {key: value for key, value in {**self.batch, **self.record}.items() if key.startswith(prefix)}
        below = self._store.scan(self._partition, prefix) if self._store else iter(())
        if not over:
            yield from (item for item in below if not item[0].startswith("\0"))
            return
        merged: dict[str, bytes | None] = {**dict(below), **over}
        for key in sorted(merged):
            value = merged[key]
            if value is not None and not key.startswith("\0"):
                yield key, value

    def keep(self) -> None:
        """The record was handled: its writes join the batch."""
        self.batch.update(self.record)
        self.record.clear()

    def drop(self) -> None:
        """The record was bad: its writes are forgotten."""
        self.record.clear()
