"""What the archiver relies on, asked of the simulated store and of the real engine alike: so that a run in memory means something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import Error

from consumers.archive.blocks import Columns
from consumers.archive.clickhouse import judge
from infra.clickhouse.client import insert_arrow
from infra.core.errors import Poison
from schemas.codec import Codec
from schemas.events.assets import AssetChange
from schemas.events.findings import Finding
from schemas.events.observations import HostObservation
from schemas.examples import EXAMPLES
from schemas.rows import Row, rows_of
from tests.simulation.lone import LoneWorld
from tests.simulation.store import KEYS, SimClient, SimStore, plain_row
from tests.stores import RunningStore, running_store

pytestmark = pytest.mark.store
RECENT = datetime.now(UTC).replace(microsecond=0)  # 90 days after they were recorded, rows are taken away
SEEN = next(event for _, event in EXAMPLES if isinstance(event, HostObservation))
CHANGE = next(event for _, event in EXAMPLES if isinstance(event, AssetChange))
FOUND = next(event for _, event in EXAMPLES if isinstance(event, Finding))
CODEC = Codec()
AT_MS = round(RECENT.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Store:
    """A client as the archiver has it, and the rows of a table as a reader sees them, with FINAL or without."""

    client: Any
    read: Callable[[str, bool], list[Row]]

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert as the sink does, row by row's columns."""
        columns = list(rows[0])
        context = self.client.create_insert_context(table, columns, column_oriented=True)
        self.client.insert(data=[[row[name] for row in rows] for name in columns], context=context)

    def final(self, table: str) -> list[Row]:
        """The rows that a reader with FINAL sees, in the order of their keys."""
        return sorted(self.read(table, True), key=lambda row: str([row[name] for name in KEYS[table][0]]))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with running_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(params=["simulated", "real"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "simulated":
        tables = SimStore()
        client: Any = SimClient(LoneWorld({}), tables)
        return Store(client, lambda table, final: tables.final(table) if final else tables.tables[table])
    running: RunningStore = request.getfixturevalue("engine")
    client = running.client(writer=True)
    for table in KEYS:
        client.command(f"TRUNCATE TABLE {table}")

    def read(table: str, final: bool) -> list[Row]:
        found = client.query(f"SELECT * FROM {table}{' FINAL' if final else ''}")  # noqa: S608  our own names
        return [plain_row(dict(zip(found.column_names, row, strict=True))) for row in found.result_rows]

    return Store(client, read)


def change(number: int) -> AssetChange:
    return CHANGE.model_copy(update={"change_id": f"{number:032x}", "summary": f"number {number}"})


def rows(*events: AssetChange | Finding | HostObservation) -> list[Row]:
    return [row for event in events for _, row in rows_of(event, RECENT)]


def test_rows_are_there_when_the_insert_returns_and_both_ways_say_the_same(store: Store) -> None:
    store.insert("changes", rows(change(1), change(2)))
    table, block = Columns(CODEC).table("changes", [CODEC.encode("changes", change(3))], [AT_MS])
    assert insert_arrow(store.client, table, block) == 1
    wanted = [plain_row(row) for row in rows(change(1), change(2), change(3))]
    assert [{name: row[name] for name in wanted[0]} for row in store.final("changes")] == wanted
    store.insert("observations", rows(SEEN))
    _, block = Columns(CODEC).table("probes", [CODEC.encode("probes", SEEN.model_copy(update={"observation_id": "ff" * 16}))], [AT_MS])
    insert_arrow(store.client, "observations", block)
    found = [{**row, "observation_id": ""} for row in store.final("observations")]
    assert found[::2] == found[1::2], "each service by hand and by columns"


def test_a_batch_that_comes_twice_makes_copies_that_a_reader_with_final_does_not_see(store: Store) -> None:
    for _ in range(2):
        store.insert("changes", rows(change(1), change(2)))
    assert len(store.read("changes", False)) == 4
    assert [row["summary"] for row in store.final("changes")] == ["number 1", "number 2"]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_the_highest_revision_stands_in_whatever_order_they_come(store: Store, order: Sequence[int]) -> None:
    for revision in order:
        store.insert("findings", rows(FOUND.model_copy(update={"revision": revision, "title": f"revision {revision}"})))
    assert [row["title"] for row in store.final("findings")] == ["revision 3"]


def test_of_one_key_and_one_version_the_last_stands(store: Store) -> None:
    for title in ("first", "second"):
        store.insert("findings", rows(FOUND.model_copy(update={"title": title})))
    assert [row["title"] for row in store.final("findings")] == ["second"]


def test_what_a_column_cannot_hold_is_a_bad_record_and_nothing_of_its_insert_is_written(store: Store) -> None:
    with pytest.raises(Error) as refused:
        store.insert("observations", rows(SEEN, SEEN.model_copy(update={"attempt": 1 << 40})))
    assert isinstance(judge(refused.value), Poison)
    assert store.read("observations", False) == []


def test_a_table_that_is_not_there_is_the_installations_fault(store: Store) -> None:
    with pytest.raises(Error) as refused:
        store.insert("nowhere", [{"column": 1}])
    assert judge(refused.value) is refused.value
