from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.clickhouse.client import connect
from infra.clickhouse.migrations import apply_migrations
from infra.core.errors import BadInput
from tests.stores import RunningStore, running_store

pytestmark = pytest.mark.store

FIRST = """-- rollback: DROP TABLE things
CREATE TABLE things (a UInt64, s String DEFAULT ';') ENGINE = MergeTree ORDER BY a;
INSERT INTO things (a) VALUES (1);
"""
SECOND = "-- rollback: DROP VIEW all_things\nCREATE VIEW all_things AS SELECT * FROM things"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with running_store(tmp_path_factory.mktemp("store")) as running:
        yield running


def folder(path: Path, *texts: str) -> Path:
    path.mkdir(exist_ok=True)
    for number, text in enumerate(texts, start=1):
        (path / f"{number:04d}_step.sql").write_text(text)
    return path


def test_each_is_applied_once(store: RunningStore, tmp_path: Path) -> None:
    client = connect(store.settings, writer=True)
    try:
        assert apply_migrations(client, "mig_once", folder(tmp_path / "sql", FIRST)) == ["0001_step"]
        assert apply_migrations(client, "mig_once", folder(tmp_path / "sql", FIRST)) == []
        assert apply_migrations(client, "mig_once", folder(tmp_path / "sql", FIRST, SECOND)) == ["0002_step"]
        assert client.query("SELECT * FROM mig_once.all_things").result_rows == [(1, ";")]
        assert client.query("SELECT engine FROM system.databases WHERE name = 'mig_once'").result_rows == [("Atomic",)]
        with pytest.raises(BadInput, match="changed after it was applied"):
            apply_migrations(client, "mig_once", folder(tmp_path / "sql", FIRST + "-- later", SECOND))
        with pytest.raises(BadInput, match="newer than this release"):
            apply_migrations(client, "mig_once", folder(tmp_path / "older", FIRST))
        with pytest.raises(BadInput, match="no name for a database"):
            apply_migrations(client, "a`; DROP DATABASE mig_once", folder(tmp_path / "sql", FIRST))
    finally:
        client.close()


def test_a_race_applies_each_once(store: RunningStore, tmp_path: Path) -> None:
    files = folder(tmp_path / "sql", FIRST, SECOND)
    applied: list[str] = []
    failures: list[Exception] = []
    start = threading.Barrier(4)

    def race() -> None:
        client = connect(store.settings, writer=True)
        try:
            start.wait(20)
            applied.extend(apply_migrations(client, "mig_race", files))
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sorted(applied) == ["0001_step", "0002_step"]
    client = store.client()
    assert client.query("SELECT count() FROM mig_race.things").result_rows == [(1,)]
    assert client.query("SELECT name FROM system.tables WHERE database = 'mig_race' AND name LIKE '%lease'").result_rows == []
    client.close()


def test_a_failed_migration_is_not_recorded_and_can_be_mended(store: RunningStore, tmp_path: Path) -> None:
    client = connect(store.settings, writer=True)
    try:
        with pytest.raises(Exception, match="nowhere"):
            apply_migrations(client, "mig_fail", folder(tmp_path / "sql", FIRST, "-- rollback: none\nINSERT INTO nowhere VALUES (1)"))
        assert apply_migrations(client, "mig_fail", folder(tmp_path / "sql", FIRST, SECOND)) == ["0002_step"]
    finally:
        client.close()


def test_the_release_s_own_are_applied_to_the_embedded_engine(store: RunningStore) -> None:
    client = connect(store.settings, writer=True)
    try:
        assert apply_migrations(client, store.settings.clickhouse.database) == []
    finally:
        client.close()
