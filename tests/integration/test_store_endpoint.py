"""The store as its users see it: unmodified clickhouse-connect, curl, and requests by hand."""

# ruff: noqa: S608, DTZ001 (statements and naive times are what is tested)
from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import subprocess
import threading
import time
from collections.abc import Iterator

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from infra.clickhouse.client import connect, insert_arrow, insert_columns
from infra.core.errors import MissingPrerequisite
from tests.ports import free_ports
from tests.stores import RunningStore, running_store, store_settings

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    folder = tmp_path_factory.mktemp("store")
    with running_store(folder, settings=store_settings(folder, query_seconds=3, query_rows=200_000), migrate=False) as running:
        yield running


def ask(
    store: RunningStore, body: str | bytes = "", path: str = "/", method: str = "POST", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read(), dict(response.headers)
    finally:
        connection.close()


def test_ping_and_curl(store: RunningStore) -> None:
    assert ask(store, method="GET", path="/ping")[:2] == (200, b"Ok.\n")
    assert ask(store, method="GET")[:2] == (200, b"Ok.\n")
    done = subprocess.run(["curl", "-sS", "-d", "SELECT 1 + 1", store.url], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "2\n"
    done = subprocess.run(
        ["curl", "-sSG", "--data-urlencode", "query=SELECT 3", store.url], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "3\n"


def test_an_unmodified_client_reads_and_writes(store: RunningStore) -> None:
    writer, reader = store.client(writer=True), store.client()
    try:
        writer.command(
            "CREATE TABLE kinds (a UInt64, b LowCardinality(String), ip IPv6, at DateTime64(3), tags Array(String), n Nullable(Int8))"
            " ENGINE = ReplacingMergeTree ORDER BY a"
        )
        rows = [
            [1, "it's", ipaddress.IPv6Address("2001:db8::1"), dt.datetime(2026, 1, 2, 3, 4, 5, 678_000), ["x", "ü"], None],
            [2, "b", ipaddress.IPv6Address("::ffff:198.18.0.1"), dt.datetime(2026, 1, 2), [], -1],
        ]  # fmt: skip
        names = ["a", "b", "ip", "at", "tags", "n"]
        assert writer.insert("kinds", rows, column_names=names).written_rows == 2
        assert [list(row) for row in reader.query("SELECT * FROM kinds ORDER BY a").result_rows] == rows
        found = reader.query("SELECT a FROM kinds WHERE b = {b:String} AND has(tags, {t:String})", parameters={"b": "it's", "t": "ü"})
        assert found.result_rows == [(1,)]
        assert reader.query("SELECT a, b FROM kinds LIMIT 0").column_names == ("a", "b")
        assert reader.query("SELECT a FROM kinds WHERE 0").result_rows == []
        assert reader.query_arrow("SELECT a FROM kinds ORDER BY a")["a"].to_pylist() == [1, 2]
        assert reader.command("SELECT timezone()") == "UTC"
        assert int(str(reader.command("SELECT count() FROM kinds"))) == 2
        assert reader.ping()
    finally:
        writer.close()
        reader.close()


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_every_compression_both_ways(store: RunningStore, compress: bool | str) -> None:
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=store.port, username="driftline", password=store.token, database="driftline", compress=compress
    )
    table = f"packed_{compress}".lower()
    try:
        client.command(f"CREATE TABLE {table} (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
        client.insert(table, [list(range(50_000)), ["row"] * 50_000], column_names=["a", "b"], column_oriented=True)
        client.raw_insert(table, ["a", "b"], b"1,x\n2,y\n", fmt="CSV")
        assert client.query(f"SELECT count(), sum(a) FROM {table}").result_rows == [(50_002, sum(range(50_000)) + 3)]
        assert len(client.query(f"SELECT a, b FROM {table}").result_rows) == 50_002
    finally:
        client.close()


def test_arrow_inserts_are_fast(store: RunningStore) -> None:
    writer = connect(store.settings, writer=True)
    try:
        writer.command("CREATE TABLE quick (a UInt64, b String) ENGINE = ReplacingMergeTree ORDER BY a")
        rows = pa.table({"a": pa.array(range(100_000), pa.uint64()), "b": [f"banner {i}" for i in range(100_000)]})
        insert_arrow(writer, "quick", rows.slice(0, 10))
        started = time.perf_counter()
        assert insert_arrow(writer, "quick", rows) == 100_000
        assert 100_000 / (time.perf_counter() - started) > 100_000
        assert insert_columns(writer, "quick", {"a": [1, 2], "b": ["x", "y"]}) == 2
        assert writer.query("SELECT count() FROM quick FINAL").result_rows == [(100_000,)]
    finally:
        writer.close()


def test_settings_and_databases_do_not_leak_between_requests(store: RunningStore) -> None:
    tokens = {"X_ClickHouse_User": "driftline", "X_ClickHouse_Key": store.token}
    assert ask(store, "SELECT getSetting('max_threads')", "/?max_threads=1", **tokens)[1] == b"1\n"
    assert ask(store, "SELECT getSetting('max_threads') = 1", **tokens)[1] == b"0\n"
    assert ask(store, "SELECT currentDatabase()", "/?database=system", **tokens)[1] == b"system\n"
    assert ask(store, "SELECT currentDatabase()", **tokens)[1] == b"driftline\n"
    assert ask(store, "SELECT getSetting('max_execution_time')", "/?max_execution_time=2")[1] == b"2\n"
    assert ask(store, "SELECT getSetting('max_execution_time')", "/?max_execution_time=99")[1] == b"3\n"


def test_errors_carry_their_code(store: RunningStore) -> None:
    status, body, headers = ask(store, "SELECT * FROM nowhere")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (404, "60")
    assert body.startswith(b"Code: 60. DB::Exception")
    status, _, headers = ask(store, "SELECT throwIf(1)")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "395")
    status, _, headers = ask(store, "SELECT 1", "/?session_check=1&session_id=x")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (404, "372")
    client = store.client()
    with pytest.raises(DatabaseError, match="nowhere") as caught:
        client.query("SELECT * FROM nowhere")
    assert caught.value.code == 60
    client.close()


def test_a_failed_insert_writes_nothing_and_says_so(store: RunningStore) -> None:
    tokens = {"X_ClickHouse_User": "driftline", "X_ClickHouse_Key": store.token}
    assert ask(store, "CREATE TABLE strict (a UInt8, s String) ENGINE = MergeTree ORDER BY a", **tokens)[0] == 200
    assert ask(store, "INSERT INTO strict FORMAT CSV\n1,a\n2,b\nx,c\n", **tokens)[0] == 500
    assert ask(store, "INSERT INTO strict FORMAT Native\n\x01\x02garbage", **tokens)[0] == 500
    assert ask(store, "INSERT INTO strict FORMAT CSV\n3,c\n", **tokens)[0] == 200
    assert ask(store, "INSERT INTO strict VALUES (4, ';'), (5, 'it''s')", **tokens)[0] == 200
    assert ask(store, "1,q\n", "/?query=INSERT%20INTO%20strict%20FORMAT%20CSV", **tokens)[0] == 200
    assert ask(store, "SELECT groupArray(a) FROM (SELECT a FROM strict ORDER BY a)")[1] == b"[1,3,4,5]\n"


def test_limits_of_a_reader(store: RunningStore) -> None:
    started = time.monotonic()
    status, body, headers = ask(store, "SELECT sum(sipHash64(number)) FROM system.numbers")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "159"), body
    assert time.monotonic() - started < 10
    assert ask(store, "SELECT number FROM system.numbers LIMIT 200001")[2]["X-ClickHouse-Exception-Code"] == "396"
    assert ask(store, "SELECT number FROM system.numbers LIMIT 200000")[0] == 200
    at_once = "SELECT max(length(randomString(1000000))) FROM numbers(65000)"  # 65 GB in one block: no waiting for the limit of time
    assert ask(store, at_once)[2]["X-ClickHouse-Exception-Code"] == "241"


def test_readers_read_while_rows_come_in(store: RunningStore) -> None:
    writer = connect(store.settings, writer=True)
    writer.command("CREATE TABLE busy (a UInt64, v UInt64) ENGINE = ReplacingMergeTree(v) ORDER BY a")
    failures: list[Exception] = []
    counts: list[int] = []
    stop = threading.Event()

    def read() -> None:
        client = connect(store.settings)
        try:
            while not stop.is_set():
                counts.append(int(client.query("SELECT count() FROM busy FINAL").result_rows[0][0]))
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            client.close()

    readers = [threading.Thread(target=read) for _ in range(6)]
    for thread in readers:
        thread.start()
    try:
        for batch in range(40):
            insert_columns(writer, "busy", {"a": list(range(batch * 100, batch * 100 + 100)), "v": [batch] * 100})
    finally:
        stop.set()
        for thread in readers:
            thread.join(20)
    assert failures == []
    assert len(counts) > 20
    assert all(count % 100 == 0 for count in counts)
    assert writer.query("SELECT count() FROM busy FINAL").result_rows == [(4000,)]
    writer.close()


def test_go_clients_get_their_hello(store: RunningStore) -> None:
    hello = "SELECT displayName(), version(), revision(), timezone()"
    body = ask(store, hello, "/?default_format=Native&client_protocol_version=54485")[1]
    assert body.startswith(b"\x01\x00\x02\xff\xff\xff\xff\x00\x04\x01\x0ddisplayName()\x06String\x00\x09driftline")
    assert ask(store, hello, "/?default_format=Native")[1].startswith(b"\x04\x01\x0ddisplayName()\x06String")


def test_the_registry_is_on_the_same_port(store: RunningStore) -> None:
    status, body, headers = ask(store, method="GET", path="/subjects")
    assert (status, json.loads(body), headers["Content-Type"]) == (200, [], "application/vnd.schemaregistry.v1+json")
    status, body, _ = ask(store, "{}", "/subjects/none")
    assert (status, json.loads(body)["error_code"]) == (404, 40401)
    assert ask(store, "{}", "/subjects/none/versions")[0] == 405


def test_what_is_missing_is_said(store: RunningStore) -> None:
    with pytest.raises(MissingPrerequisite, match="No store answers"):
        connect(store.settings.model_copy(update={"store": store.settings.store.model_copy(update={"port": free_ports(1)[0]})}))
    with pytest.raises(MissingPrerequisite, match="token"):
        connect(store.settings.model_copy(update={"data_dir": store.settings.data_dir / "elsewhere"}), writer=True)


def test_parameters_may_come_as_a_form(store: RunningStore) -> None:
    form = ["-F", "query=SELECT {x:String} AS x FORMAT JSONCompactEachRow", "-F", "param_x=a'b"]
    done = subprocess.run(["curl", "-sS", *form, store.url], capture_output=True, text=True, timeout=20, check=True)
    assert json.loads(done.stdout) == ["a'b"]
    client = clickhouse_connect.get_client(host="127.0.0.1", port=store.port, form_encode_query_params=True)
    assert client.query("SELECT length({x:String})", parameters={"x": "y" * 100_000}).result_rows == [(100_000,)]
    client.close()
