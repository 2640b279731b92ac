"""Whatever is typed after a command that asks ClickHouse is a value, never SQL: nothing is changed by it and nothing else is shown."""

# ruff: noqa: S608 (injections are what is tested)
from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from typer.testing import Result

from infra.app.commands.runs import wait_for_requests
from infra.core.errors import BadInput
from tests.commands import invoke
from tests.meta.test_docs import fill
from tests.stores import RunningStore, running_store

pytestmark = pytest.mark.store
EVIL = (
    "' OR 1=1 --",
    "\\' OR 1=1 --",
    "'; DROP TABLE runs; --",
    "x') OR ('1'='1",
    "a' UNION ALL SELECT name FROM system.tables --",
    "0' OR startsWith(finding_id, '",
    "{x:String}",
    "%(x)s",
    "`runs`",
    "\\",
    "x\\'",
    "1; INSERT INTO runs (run_id) VALUES ('x')",
    "/**/",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with running_store(tmp_path_factory.mktemp("injection")) as running:
        fill(running)
        writer = running.client(writer=True)
        now = datetime.now(UTC)
        for number, evil in enumerate(EVIL):
            columns = ["run_id", "request_id", "zone", "units", "started_at", "recorded_at", "refused_targets", "refused_reasons"]
            row = [f"evil-{number}", evil, "z", 0, now, now, [f"target-{number}"], ["refused"]]
            writer.insert("runs", [row], column_names=columns)
        writer.close()
        yield running


def call(store: RunningStore, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(store.settings.data_dir))
    monkeypatch.setenv("DRIFTLINE_STORE__PORT", str(store.port))
    return invoke(*arguments)


def contents(store: RunningStore) -> list[tuple[object, ...]]:
    client = store.client()
    try:
        sql = "SELECT name, total_rows FROM system.tables WHERE database = 'driftline' AND engine LIKE '%MergeTree' ORDER BY name"
        return [tuple(row) for row in client.query(sql).result_rows]
    finally:
        client.close()


@pytest.mark.parametrize("evil", EVIL)
def test_no_argument_of_a_command_is_taken_for_sql(store: RunningStore, monkeypatch: pytest.MonkeyPatch, evil: str) -> None:
    before = contents(store)
    for arguments in (
        ("findings", "show", evil),
        ("findings", "accept", evil, "--reason", "x"),
        ("touched", evil),
        ("touched", "198.18.0.1", "--from", evil),
        ("touched", "198.18.0.1", "--to", evil),
        ("runs", "--limit", evil),
        ("ddl", "--cluster", evil),
        ("ddl", "--cluster", "c", "--database", evil),
    ):
        result = call(store, monkeypatch, *arguments)
        assert isinstance(result.exception, BadInput) or result.exit_code == 2, (arguments, result.output, result.exception)
    assert contents(store) == before


@pytest.mark.parametrize("number", range(len(EVIL)))
def test_a_request_of_a_hostile_name_finds_itself_and_nothing_else(
    store: RunningStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(store.settings.data_dir))
    monkeypatch.setenv("DRIFTLINE_STORE__PORT", str(store.port))
    assert wait_for_requests([EVIL[number]]).refused == [(f"target-{number}", "refused")]


@pytest.mark.parametrize(
    "sql", ["DROP TABLE runs", "SELECT 1; DROP TABLE runs", "INSERT INTO runs (run_id) VALUES ('x')", "SET readonly = 0"]
)
def test_a_query_that_would_change_something_is_refused(store: RunningStore, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    before = contents(store)
    assert isinstance(call(store, monkeypatch, "query", sql).exception, BadInput)
    assert contents(store) == before


def test_the_negative_control_a_literal_that_is_not_escaped_would_be_seen(store: RunningStore) -> None:
    client = store.client()
    found = client.query(f"SELECT count() FROM runs WHERE request_id = '{EVIL[0]}'").result_rows
    assert found[0][0] > 1
    client.close()
