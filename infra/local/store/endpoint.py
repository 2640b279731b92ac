"""The HTTP endpoint on loopback: ClickHouse's dialect in front of the engine, and the schema registry's read calls.

Every request without the writer's token only reads, under limits. Everything is bounded: connections, statements at once and
waiting, the size of bodies and answers, and the time a request may take to arrive.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import structlog

from infra.core.telemetry import Meter
from infra.local.store import bodies, dialect, registry_reads
from infra.local.store.dialect import Rejected, Statement
from infra.local.store.engine import Access, Answer, Engine, EngineError
from infra.local.store.registry_reads import SchemaCatalog

log = structlog.get_logger()

WRITER = "driftline"
CONNECTIONS = 128
IDLE_SECONDS, ARRIVE_SECONDS, SEND_SECONDS = 30.0, 60.0, 30.0
READER_BODY, WRITER_BODY = 1 << 20, 128 << 20
_COMPRESS_FROM = 4096
_HOLD_SLOT_FROM = 1 << 20

# ClickHouse answers 404 for what it does not know; a client tells by the code, not by the status.
_NOT_FOUND = frozenset({46, 47, 50, 56, 60, 61, 63, 73, 75, 81, 115})
_TOO_MANY_QUERIES, _AUTHENTICATION_FAILED = 202, 516
_CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8",
    "Pretty": "text/plain; charset=UTF-8",
    "PrettyCompact": "text/plain; charset=UTF-8",
}


class Gate:
    """Lets so many in at once, lets some wait for a while, and refuses the rest with 503."""

    def __init__(self, running: int, waiting: int, seconds: float) -> None:
        self._slots = threading.Semaphore(running)
        self._queue = threading.Semaphore(running + waiting)
        self._seconds = seconds

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a place. Raises Rejected (503)."""
        if not self._queue.acquire(blocking=False):
            raise Rejected(_TOO_MANY_QUERIES, "Too many simultaneous queries: the queue is full, try again later.", 503)
        try:
            if not self._slots.acquire(timeout=self._seconds):
                raise Rejected(_TOO_MANY_QUERIES, "Too many simultaneous queries: waited too long, try again later.", 503)
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._queue.release()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader's statement may take. `memory_bytes` is the engine's whole memory."""

    seconds: int
    rows: int
    memory_bytes: int

    def settings(self) -> dict[str, int]:
        """The limits as settings of the engine."""
        return {
            "max_execution_time": self.seconds,
            "max_result_rows": self.rows,
            "max_result_bytes": self.memory_bytes // 4,
            "max_memory_usage": self.memory_bytes // 2,
        }


class StoreServer(ThreadingHTTPServer):
    """The listening endpoint. Without an engine only the registry is served. `serve_forever()` in a thread, then `drain()`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, engine: Engine | None, token: str, limits: Limits, catalog: SchemaCatalog) -> None:
        self.engine = engine
        self.token = token
        self.limits = limits.settings()
        self.catalog = catalog
        self.meter = Meter("store")
        # Apart, so that readers can never keep the archiver waiting.
        self.gates: dict[Access, Gate] = {"reader": Gate(4, 32, 10.0), "writer": Gate(4, 32, 60.0)}
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread a connection, and no more connections than the limit."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.settimeout(1.0)
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 22\r\n\r\nToo many connections.\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The connection's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours."""
        del request, client_address
        log.debug("store_connection_lost")

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count a request as in work, so that `drain` can wait for it."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until no request is in work; False where some still are after `seconds`."""
        with self._idle:
            return self._idle.wait_for(lambda: self._busy == 0, timeout=seconds)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Driftline"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: StoreServer

    def setup(self) -> None:
        super().setup()
        self._reader = bodies.DeadlineReader(self.connection)
        self.rfile: io.BufferedIOBase = io.BufferedReader(self._reader, 1 << 16)

    def handle_one_request(self) -> None:
        """Wait for a request, then give it a fixed time to arrive, so that no slow client holds a thread for long."""
        self.close_connection = True
        self._reader.deadline = time.monotonic() + IDLE_SECONDS
        with suppress(OSError):
            if not cast("io.BufferedReader", self.rfile).peek(1):
                return
            self._reader.deadline = time.monotonic() + ARRIVE_SECONDS
            super().handle_one_request()

    def handle_expect_100(self) -> bool:
        """Ask for the body at once: the writer is buffered."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """No access log; refusals are logged where they happen."""

    def _dispatch(self) -> None:
        query_id = str(uuid.uuid4())
        try:
            with self.server.working():
                self._route(query_id)
        except Rejected as error:
            # The rest of the body is not read, so the connection can't be used again.
            self.close_connection = True
            self._send_error(error.status, error.code, str(error), query_id)
        except EngineError as error:
            self._send_error(404 if error.code in _NOT_FOUND else 500, error.code, str(error), query_id)
        except (TimeoutError, ConnectionError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _dispatch  # noqa: N815

    def _route(self, query_id: str) -> None:
        url = urlsplit(self.path)
        host = urlsplit("//" + (self.headers.get("Host") or "localhost")).hostname
        if host not in {"127.0.0.1", "localhost", "::1"}:
            # A web page that rebinds its name to 127.0.0.1 must not read findings.
            raise Rejected(dialect.ACCESS_DENIED, "This endpoint answers on 127.0.0.1 and localhost only.", 403)
        if registry_reads.is_registry_path(url.path):
            self._registry(url.path)
            return
        parameters = dict(parse_qsl(url.query, keep_blank_values=True, max_num_fields=1000))
        if url.path in {"/ping", "/replicas_status"} or (self.command in {"GET", "HEAD"} and url.path == "/" and "query" not in parameters):
            self._send(200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"})
            return
        if url.path not in {"/", "/query"}:
            raise Rejected(dialect.NOT_IMPLEMENTED, f"There is no resource {url.path}; use / or /ping for more correct response.", 404)
        if self.command not in {"GET", "POST"}:
            raise Rejected(dialect.NOT_IMPLEMENTED, f"Queries are asked with GET or POST, not {self.command}.", 405)
        self._query(parameters, query_id)

    def _registry(self, path: str) -> None:
        body = bodies.read_body(self.rfile, self.headers, READER_BODY)
        status, document = registry_reads.answer(self.server.catalog, self.command, path, body)
        self._send(status, json.dumps(document).encode(), {"Content-Type": registry_reads.CONTENT_TYPE})

    def _query(self, parameters: dict[str, str], query_id: str) -> None:
        engine = self.server.engine
        if engine is None:
            raise Rejected(
                dialect.NOT_IMPLEMENTED, "A ClickHouse server is configured (DRIFTLINE_CLICKHOUSE__DSN): ask it, not the store.", 404
            )
        self.server.meter.received()
        _check_transport(parameters)
        access = self._access(parameters)
        gate = self.server.gates[access]
        if access == "writer":
            # A writer's body may be large, so its place is taken before the body is.
            with gate.slot():
                statement, database = self._statement(parameters, WRITER_BODY)
                self._answer(engine, statement, access, database, parameters, query_id)
            return
        statement, database = self._statement(parameters, READER_BODY)
        dialect.check_reader(statement)
        with gate.slot():
            self._answer(engine, statement, access, database, parameters, query_id)

    def _answer(
        self, engine: Engine, statement: Statement, access: Access, database: str, parameters: Mapping[str, str], query_id: str
    ) -> None:
        settings = dialect.settings_of(parameters, access == "reader", self.server.limits if access == "reader" else {})
        answer = engine.run(statement, access, database=database, settings=settings, parameters=dialect.bound_parameters(parameters))
        if parameters.get("client_protocol_version", "0") != "0" and dialect.is_go_hello(statement):
            answer = replace(answer, body=dialect.go_hello(engine.version))
        headers = {"X-ClickHouse-Summary": _summary(answer), "X-ClickHouse-Query-Id": parameters.get("query_id") or query_id}
        if statement.kind == "read" or answer.body:
            headers["X-ClickHouse-Format"] = statement.format
        headers["Content-Type"] = _CONTENT_TYPES.get(statement.format, "application/octet-stream")
        body = answer.body
        if len(body) >= _COMPRESS_FROM and parameters.get("enable_http_compression") == "1":
            body, encoding = bodies.compress(body, self.headers.get("Accept-Encoding") or "")
            if encoding:
                headers["Content-Encoding"] = encoding
        self._send(200, body, headers)
        self.server.meter.emitted()

    def _statement(self, parameters: dict[str, str], limit: int) -> tuple[Statement, str]:
        body = bodies.read_body(self.rfile, self.headers, limit)
        content_type = self.headers.get("Content-Type") or ""
        if content_type.lower().startswith("multipart/form-data"):
            parameters.update(bodies.read_form(body, content_type))
            body = b""
        default = parameters.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"
        database = parameters.get("database") or self.headers.get("X-ClickHouse-Database") or ""
        return dialect.parse(parameters.get("query", "").encode(), default, body), database

    def _access(self, parameters: Mapping[str, str]) -> Access:
        user, key = _credentials(self.headers, parameters)
        if not key and user in {"", "default"}:
            return "reader"
        if user == WRITER and hmac.compare_digest(key.encode(), self.server.token.encode()):
            # As in ClickHouse, GET never writes: a link that is followed must not change anything.
            return "reader" if self.command == "GET" else "writer"
        log.warning("store_authentication_failed", user=user[:40])
        raise Rejected(_AUTHENTICATION_FAILED, f"{user[:40]}: Authentication failed: the password is wrong, or there is no such user.", 403)

    def _send_error(self, status: int, code: int, message: str, query_id: str) -> None:
        text = message if message.startswith("Code: ") else f"Code: {code}. DB::Exception: {message}"
        headers = {"X-ClickHouse-Exception-Code": str(code), "X-ClickHouse-Query-Id": query_id, "Content-Type": "text/plain; charset=UTF-8"}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = "1"
        with suppress(OSError):
            self._send(status, (text + "\n").encode(), headers)
            if self.close_connection:
                self._let_go()

    def _let_go(self) -> None:
        """Take a little more of what a refused client still sends: a reset would eat the answer that says why."""
        self.connection.shutdown(socket.SHUT_WR)
        self._reader.deadline = time.monotonic() + 2.0
        left = 64 << 20
        while left > 0 and (taken := len(self.rfile.read1(1 << 16))):
            left -= taken

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.connection.settimeout(SEND_SECONDS)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, _one_line(value))
        self.send_header("X-ClickHouse-Server-Display-Name", "driftline")
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def _one_line(value: str) -> str:
    """A header's value: what a client sent must not end the header."""
    return "".join(c if " " <= c <= "~" else "?" for c in value)[:1024]


def _check_transport(parameters: Mapping[str, str]) -> None:
    if parameters.get("compress", "0") != "0" or parameters.get("decompress", "0") != "0":
        raise Rejected(dialect.NOT_IMPLEMENTED, "compress and decompress are not supported: use Content-Encoding and Accept-Encoding.")
    if parameters.get("session_check", "0") != "0":
        raise Rejected(372, "Session not found: this endpoint keeps no sessions.", 404)


def _credentials(headers: Message, parameters: Mapping[str, str]) -> tuple[str, str]:
    """User and password, from where ClickHouse looks for them: its own headers, Basic or Bearer, the parameters."""
    scheme, _, value = (headers.get("Authorization") or "").partition(" ")
    if headers.get("X-ClickHouse-User") or headers.get("X-ClickHouse-Key"):
        return headers.get("X-ClickHouse-User") or "", headers.get("X-ClickHouse-Key") or ""
    if scheme.lower() == "basic":
        try:
            user, _, key = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", "?"
        return user, key
    if scheme.lower() == "bearer":
        return WRITER, value
    return parameters.get("user", ""), parameters.get("password", "")


def _summary(answer: Answer) -> str:
    numbers = {
        "read_rows": answer.read_rows, "read_bytes": answer.read_bytes, "written_rows": answer.written_rows,
        "written_bytes": answer.written_bytes, "elapsed_ns": int(answer.seconds * 1e9),
    }  # fmt: skip
    return json.dumps({name: str(number) for name, number in numbers.items()})
