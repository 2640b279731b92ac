"""What someone who may only read tries: none of it changes anything, reads a file, opens a connection or wears the store out."""

# ruff: noqa: S608 (injections are what is tested)
from __future__ import annotations

import http.client
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import lz4.frame  # type: ignore[import-untyped]
import psutil
import pytest

from infra.local.store import endpoint
from infra.local.store.registry_reads import NoSchemas
from tests.stores import RunningStore, running_store

pytestmark = pytest.mark.store
SECRET = "a-secret-of-this-machine"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with running_store(tmp_path_factory.mktemp("store"), migrate=False) as running:
        writer = running.client(writer=True)
        writer.command("CREATE TABLE kept (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
        writer.insert("kept", [[1, "x"]], column_names=["a", "s"])
        writer.close()
        yield running


@pytest.fixture(scope="module")
def trap() -> Iterator[tuple[int, list[object]]]:
    """A port that nothing may connect to: its address, and who did."""
    caught: list[object] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def watch() -> None:
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                caught.append(peer)
                connection.close()

        threading.Thread(target=watch, daemon=True).start()
        yield listener.getsockname()[1], caught
        listener.shutdown(socket.SHUT_RDWR)


def ask(store: RunningStore, body: str | bytes, path: str = "/", method: str = "POST", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


WRITES = [
    "INSERT INTO kept VALUES (2, 'y')",
    "INSERT INTO kept FORMAT CSV\n2,y",
    "SELECT 1; INSERT INTO kept VALUES (2, 'y')",
    "DROP TABLE kept",
    "TRUNCATE TABLE kept",
    "ALTER TABLE kept DELETE WHERE 1",
    "DELETE FROM kept WHERE 1",
    "RENAME TABLE kept TO lost",
    "CREATE TABLE more (a Int8) ENGINE = Memory",
    "CREATE TABLE f (s String) ENGINE = File(LineAsString, '/etc/passwd')",
    "CREATE DATABASE d ENGINE = Filesystem('/etc')",
    "CREATE FUNCTION g AS x -> x",
    "OPTIMIZE TABLE kept FINAL",
    "SYSTEM STOP MERGES",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "GRANT ALL ON *.* TO default",
    "SET readonly = 0",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "WITH 1 AS x INSERT INTO kept SELECT x, 'y'",
    "EXPLAIN SELECT 1; DROP TABLE kept",
    "(SELECT 1); DROP TABLE kept",
    "BACKUP TABLE kept TO File('/tmp/x')",
    "DETACH TABLE kept",
    "ATTACH TABLE kept",
    "EXECUTE AS default DROP TABLE kept",
    "CHECK TABLE kept",
]


@pytest.mark.parametrize("text", WRITES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_reader_changes_nothing(store: RunningStore, text: str, method: str) -> None:
    status, body = ask(store, "" if method == "GET" else text, f"/?query={quote(text)}" if method == "GET" else "/", method)
    assert status >= 400, body
    assert "Code: " in body
    assert ask(store, "SELECT groupArray((a, s)) FROM kept")[1] == "[(1,'x')]\n"


def test_no_file_is_read(store: RunningStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET + "\n")
    for text in (
        "SELECT file('{}')",
        "SELECT `file`('{}')",
        "SELECT * APPLY(file) FROM (SELECT '{}')",
        "SELECT arrayMap(file, ['{}'])",
        "SELECT * FROM file('{}', 'LineAsString')",
        "DESCRIBE file('{}')",
        "SELECT * FROM default.`{}`",
        "SELECT * FROM `{}`",
        "SELECT * FROM filesystem('{}')",
        "SELECT * FROM loop(file('{}', 'LineAsString')) LIMIT 1",
        "SELECT * FROM view(SELECT * FROM file('{}', 'LineAsString'))",
        "SELECT * FROM fileCluster('default', '{}', 'LineAsString')",
        "SELECT * FROM sqlite('{}', 't')",
        "SELECT * FROM icebergLocal('{}')",
        "SELECT * FROM executable('{}', 'TSV', 'x String')",
        "SELECT 1 FORMAT Template SETTINGS format_template_row = '{}'",
        "SELECT '\\', file(', file('{}') --'",
    ):
        status, body = ask(store, text.format(secret))
        assert status >= 400, text
        assert SECRET not in body
    for parameter in (
        "format_template_row",
        "format_schema",
        "output_format_schema",
        "profile",
        "implicit_select",
        "allow_introspection_functions",
    ):
        assert ask(store, "SELECT 1", f"/?{parameter}={secret}")[0] == 500
    assert ask(store, "SELECT {f:Identifier}('" + str(secret) + "')", "/?param_f=file")[0] >= 400
    assert ask(store, "SELECT * APPLY({f:Identifier}) FROM (SELECT '" + str(secret) + "')", "/?param_f=file")[0] >= 400


def test_no_file_is_written(store: RunningStore, tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    for text in (
        "SELECT 1 INTO OUTFILE '{}'",
        "SELECT 1 INTO\n--x\nOUTFILE '{}' FORMAT CSV",
        "INSERT INTO FUNCTION file('{}', 'TSV', 'a Int8') SELECT 1",
    ):
        assert ask(store, text.format(target))[0] >= 400
        assert ask(store, text.format(target), X_ClickHouse_User="driftline", X_ClickHouse_Key=store.token)[0] >= 400
    assert not target.exists()


def test_no_connection_is_opened(store: RunningStore, trap: tuple[int, list[object]]) -> None:
    port, caught = trap
    address = f"127.0.0.1:{port}"
    for text in (
        f"SELECT * FROM url('http://{address}/', 'LineAsString')",
        f"DESCRIBE url('http://{address}/x.csv')",
        f"SELECT * FROM s3('http://{address}/bucket/key', 'LineAsString')",
        f"SELECT * FROM iceberg('http://{address}/bucket/key')",
        f"SELECT * FROM deltaLake('http://{address}/bucket/key')",
        f"SELECT * FROM hdfs('hdfs://{address}/x', 'TSV', 'a String')",
        f"SELECT * FROM remote('{address}', 'system', 'one')",
        f"SELECT * FROM mysql('{address}', 'a', 'b', 'c', 'd')",
        f"SELECT * FROM postgresql('{address}', 'a', 'b', 'c', 'd')",
        f"SELECT * FROM mongodb('{address}', 'a', 'b', 'c', 'd', 'x String')",
        f"SELECT * FROM redis('{address}', 'k', 'k String, v String')",
        f"SELECT * FROM azureBlobStorage('http://{address}/a', 'b', 'c')",
        f"SELECT * FROM gcs('http://{address}/bucket/key', 'LineAsString')",
    ):
        for who in ({}, {"X_ClickHouse_User": "driftline", "X_ClickHouse_Key": store.token}):
            assert ask(store, text, **who)[0] >= 400, text
    assert caught == []


def test_parameters_are_values_only(store: RunningStore) -> None:
    evil = quote("x' OR 1 = 1 -- ")
    assert ask(store, "SELECT count() FROM kept WHERE s = {s:String}", f"/?param_s={evil}")[1] == "0\n"
    assert ask(store, "SELECT {a:UInt8}", f"/?param_a={quote('1); DROP TABLE kept')}")[0] == 500
    assert ask(store, "SELECT 1", f"/?database={quote('system`; DROP TABLE driftline.kept; --')}")[0] == 404
    assert ask(store, "SELECT 1", f"/?max_threads={quote('1, readonly = 0')}")[0] >= 400
    assert ask(store, "SELECT count() FROM kept")[1] == "1\n"


@pytest.mark.parametrize(
    "who",
    [
        {"X_ClickHouse_User": "driftline", "X_ClickHouse_Key": "wrong"},
        {"X_ClickHouse_User": "driftline", "X_ClickHouse_Key": ""},
        {"X_ClickHouse_User": "default", "X_ClickHouse_Key": "wrong"},
        {"X_ClickHouse_User": "root"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic ZHJpZnRsaW5lOg=="},
    ],
)
def test_a_bad_token_is_refused(store: RunningStore, who: dict[str, str]) -> None:
    status, body = ask(store, "SELECT 1", **who)
    assert (status, "Code: 516" in body) == (403, True)


def test_the_token_is_for_its_owner_only_and_get_never_writes(store: RunningStore) -> None:
    file = store.settings.data_dir / "store.token"
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600  # noqa: PTH116
    tokens = {"X_ClickHouse_User": "driftline", "X_ClickHouse_Key": store.token}
    assert ask(store, "", f"/?query={quote('DROP TABLE kept')}", "GET", **tokens)[0] == 403


def test_a_foreign_host_name_is_refused(store: RunningStore) -> None:
    assert ask(store, "SELECT 1", Host="evil.example:8123")[0] == 403
    assert ask(store, "SELECT 1", Host=f"localhost:{store.port}")[0] == 200


def test_it_listens_on_loopback_only(store: RunningStore) -> None:
    listening = [c.laddr.ip for c in psutil.Process(store.process.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_huge_bodies_are_refused(store: RunningStore) -> None:
    with socket.create_connection(("127.0.0.1", store.port), timeout=20) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nSELECT 1")
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]
    bomb = lz4.frame.compress(b" " * (64 << 20))
    assert ask(store, bomb, Content_Encoding="lz4")[0] == 413
    assert ask(store, b"SELECT '" + b"x" * (2 << 20) + b"'")[0] == 413
    assert ask(store, "SELECT " + "(" * 100_000)[0] >= 400
    with socket.create_connection(("127.0.0.1", store.port), timeout=20) as raw:
        raw.sendall(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n")
        assert b" 414 " in raw.recv(4096).split(b"\r\n")[0]


def test_nonsense_does_not_stop_it(store: RunningStore) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        with socket.create_connection(("127.0.0.1", store.port), timeout=5) as raw:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
    status, body = ask(store, "SELECT 1", "/?query_id=" + quote("a\r\nX-Evil: 1"))
    assert (status, body) == (200, "1\n")
    assert ask(store, "SELECT 1", "/no/such/path")[0] == 404
    assert ask(store, "SELECT 1", method="DELETE")[0] == 405


def test_too_many_queries_wait_and_then_are_refused(store: RunningStore) -> None:
    statuses: list[int] = []

    def slow() -> None:
        statuses.append(ask(store, "SELECT sleep(2)")[0])

    threads = [threading.Thread(target=slow) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(statuses) == 50
    assert set(statuses) == {200, 503}
    assert statuses.count(503) >= 50 - 4 - 32
    assert ask(store, "SELECT 1")[1] == "1\n"


@contextmanager
def bare_server() -> Iterator[endpoint.StoreServer]:
    """The endpoint without an engine behind it."""
    server = endpoint.StoreServer(0, None, "t", endpoint.Limits(1, 1, 1 << 20), NoSchemas())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.parametrize("start", [b"", b"GET /ping HT", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nSEL"])
def test_slow_clients_are_let_go(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(endpoint, "ARRIVE_SECONDS", 0.5)
    monkeypatch.setattr(endpoint, "IDLE_SECONDS", 0.5)
    with bare_server() as server, socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as raw:
        raw.sendall(start)
        begun = time.monotonic()
        with suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
        assert time.monotonic() - begun < 5


def test_more_connections_than_are_allowed_are_refused() -> None:
    with bare_server() as server, ExitStack() as stack:
        address = ("127.0.0.1", server.server_address[1])
        held = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(endpoint.CONNECTIONS + 1)]
        said, _, _ = select.select(held, [], [], 10)
        assert [one.recv(4096)[:12] for one in said] == [b"HTTP/1.1 503"]
