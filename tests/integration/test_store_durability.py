"""What was acknowledged is there after a kill -9; one process owns the folder; the store rests."""

# ruff: noqa: S310, S608 (addresses and statements are the test's own)
from __future__ import annotations

import threading
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import psutil
import pytest

from infra.clickhouse.client import connect, insert_columns
from infra.core.errors import MissingPrerequisite
from infra.local.store.role import run
from tests.ports import free_ports
from tests.stores import running_store, store_settings

pytestmark = pytest.mark.store


def test_acknowledged_rows_survive_kill_9(tmp_path: Path) -> None:
    settings = store_settings(tmp_path)
    acknowledged: list[int] = []
    with running_store(tmp_path, settings=settings, migrate=False) as store:
        writer = connect(settings, writer=True)
        writer.command("CREATE TABLE kept (a UInt64, s String) ENGINE = ReplacingMergeTree ORDER BY a")
        enough = threading.Event()

        def insert() -> None:
            try:
                for batch in range(100_000):
                    insert_columns(writer, "kept", {"a": [batch * 10 + i for i in range(10)], "s": [f"row {batch}"] * 10})
                    acknowledged.append(batch)
                    if batch == 50:
                        enough.set()
            except Exception:  # noqa: BLE001
                return

        thread = threading.Thread(target=insert)
        thread.start()
        assert enough.wait(60)
        store.kill()
        thread.join(30)
        writer.close()
    token = (tmp_path / "store.token").read_text()
    with running_store(tmp_path, settings=settings, migrate=False):
        reader = connect(settings)
        there = {row[0] for row in reader.query("SELECT DISTINCT intDiv(a, 10) FROM kept FINAL").result_rows}
        assert set(acknowledged) <= there
        assert there <= {*acknowledged, len(acknowledged)}
        assert reader.query("SELECT count() % 10 FROM kept FINAL").result_rows == [(0,)]
        reader.close()
        assert (tmp_path / "store.token").read_text() == token


def test_a_second_store_on_the_folder_or_port_is_told(tmp_path: Path) -> None:
    settings = store_settings(tmp_path)
    with running_store(tmp_path, settings=settings, migrate=False):
        with pytest.raises(MissingPrerequisite, match="Another process has the ClickHouse data"):
            run(store_settings(tmp_path, free_ports(1)[0]), threading.Event(), lambda: None)
        elsewhere = store_settings(tmp_path / "other", settings.store.port).model_copy(
            update={"clickhouse": settings.clickhouse.model_copy(update={"dsn": "http://127.0.0.1:1"})}
        )
        with pytest.raises(MissingPrerequisite, match="can't listen"):
            run(elsewhere, threading.Event(), lambda: None)


def test_with_a_server_only_the_registry_is_served(tmp_path: Path) -> None:
    settings = store_settings(tmp_path)
    settings = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"dsn": "http://127.0.0.1:1"})})
    stop, ready = threading.Event(), threading.Event()
    seen: list[object] = []
    thread = threading.Thread(target=run, args=(settings, stop, ready.set), kwargs={"migrate": seen.append})
    thread.start()
    try:
        assert ready.wait(10)
        assert seen == [None]
        base = f"http://127.0.0.1:{settings.store.port}"
        assert urllib.request.urlopen(base + "/subjects", timeout=5).read() == b"[]"
        with pytest.raises(HTTPError, match="404"):
            urllib.request.urlopen(base + "/?query=SELECT%201", timeout=5)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


@pytest.mark.slow
def test_at_rest_it_costs_next_to_nothing(tmp_path: Path) -> None:
    with running_store(tmp_path) as store:
        writer = connect(store.settings, writer=True)
        for number in range(8):
            writer.command(f"CREATE TABLE rest_{number} (a UInt64, s String, v UInt64) ENGINE = ReplacingMergeTree(v) ORDER BY a")
            for version in range(5):
                writer.command(f"INSERT INTO rest_{number} SELECT number, toString(number), {version} FROM numbers(1000)")
        writer.close()
        process = psutil.Process(store.process.pid)
        deadline = time.monotonic() + 60
        while True:  # merges end first
            before = process.cpu_times()
            time.sleep(10)
            after = process.cpu_times()
            share = (after.user + after.system - before.user - before.system) / 10
            if share < 0.02 or time.monotonic() > deadline:
                break
        assert share < 0.02
        assert process.memory_info().rss < 450 << 20
