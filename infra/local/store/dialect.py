"""Reading ClickHouse's HTTP requests: what a statement is, what may be asked of it, which format answers it. Pure.

Source: https://clickhouse.com/docs/interfaces/http, and for the tokens the rules of ClickHouse's own lexer (src/Parsers/Lexer.cpp).
The engine enforces what a reader may do (`readonly = 1`, no grant on any source); this module refuses what the embedded
engine does before or beside those checks: `file()` as a scalar function, `INTO OUTFILE`, `KILL QUERY`, statements in a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["read", "insert", "other"]


class Rejected(Exception):
    """This endpoint does not run the statement. `code` is ClickHouse's number for the error, `status` the HTTP status."""

    def __init__(self, code: int, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


SYNTAX_ERROR, ACCESS_DENIED, READONLY, NOT_IMPLEMENTED = 62, 497, 164, 48

MAX_STATEMENT = 1 << 20

_READ_VERBS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS"})
# A session's state would be lost with the request's handle, so statements that only make sense in a session are refused.
_SESSION_VERBS = frozenset({"SET", "USE", "BEGIN", "COMMIT", "ROLLBACK"})
# Names that no reader may use in any spelling: `file` reads any file as a scalar function, `python` the interpreter's variables.
_READER_BANNED = frozenset({"file", "python", "stack_trace"})

# Formats of chDB's Python layer: objects of this process, not bytes.
_CHDB_FORMATS = frozenset({"dataframe", "datastore", "arrowtable"})
# What stands behind a column that is called `format`, where no format is named.
_AFTER_A_COLUMN = frozenset(
    {b"FROM", b"AS", b"ASC", b"DESC", b"IN", b"NOT", b"LIKE", b"ILIKE", b"IS", b"AND", b"OR", b"BETWEEN", b"LIMIT", b"ORDER"}
)

# What a reader may set for one query; numbers are capped by the endpoint's limits.
READER_LIMITS = frozenset({"max_execution_time", "max_result_rows", "max_result_bytes", "max_memory_usage"})
READER_SETTINGS = READER_LIMITS | {
    "max_rows_to_read", "max_threads", "limit", "offset", "final", "join_use_nulls", "session_timezone", "date_time_output_format",
    "output_format_json_quote_64bit_integers", "output_format_json_quote_denormals", "output_format_json_named_tuples_as_objects",
    "output_format_arrow_string_as_string", "output_format_arrow_compression_method", "output_format_native_encode_types_in_binary_format",
    "extremes", "date_time_input_format", "cast_string_to_dynamic_use_inference", "add_http_cors_header", "log_comment",
}  # fmt: skip

# Parameters of the transport itself. They never reach the engine.
TRANSPORT = frozenset({
    "query", "database", "default_format", "user", "password", "query_id", "quota_key", "session_id", "session_timeout", "session_check",
    "compress", "decompress", "wait_end_of_query", "client_protocol_version", "role", "buffer_size", "enable_http_compression",
    "http_zlib_compression_level", "send_progress_in_http_headers", "http_headers_progress_interval_ms", "readonly", "stacktrace",
    "cancel_http_readonly_queries_on_client_close", "http_write_exception_in_output_format", "close_session", "framing",
})  # fmt: skip

_TOKEN = re.compile(
    rb"""(?P<space>\s+)
    |(?P<comment>--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]++|\\.|'')*+')
    |(?P<quoted>`(?:[^`\\]++|\\.|``)*+`|"(?:[^"\\]++|\\.|"")*+")
    |(?P<word>[A-Za-z0-9_]+)
    |(?P<mark>[^'"`])""",
    re.VERBOSE | re.DOTALL,
)
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, ready for the engine.

    An INSERT with rows is split: `sql` ends before its SETTINGS (`settings`) and FORMAT, `data` are the rows in `format`. For anything
    else `format` names the answer's format, and `default_format` what the engine uses where the statement itself names none.
    """

    kind: Kind
    verb: str
    sql: bytes
    format: str
    data: bytes | None = None
    settings: bytes = b""
    default_format: str = "TabSeparated"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: bytes
    start: int
    end: int
    depth: int


def _tokens(text: bytes) -> Iterator[_Token]:
    """Tokens without spaces and comments. Raises Rejected for a quote that is never closed."""
    position = depth = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Rejected(SYNTAX_ERROR, f"A quote that is opened at byte {position} is never closed.")
        kind, raw = match.lastgroup or "mark", match.group()
        if raw == b"(":
            depth += 1
        elif raw == b")":
            depth -= 1
        if kind not in {"space", "comment"}:
            yield _Token(kind, raw, match.start(), match.end(), depth)
        position = match.end()


def parse(text: bytes, default_format: str = "TabSeparated", body: bytes = b"") -> Statement:
    """Read one request: the `query` parameter (`text`) and the body, of which either may be empty. Raises Rejected."""
    if text and body:
        # The common case of large inserts: all of the rows are the body, and megabytes need not be copied to be looked at.
        statement = parse(text, default_format) if _verb(text) == "INSERT" else None
        if statement is not None and statement.data == b"":
            return replace(statement, data=body)
        return parse(text + b"\n" + body, default_format)
    text = text or body
    verb = _verb(text)
    if not verb:
        raise Rejected(SYNTAX_ERROR, "The request holds no statement: send it as the body, or as the parameter `query`.")
    if verb in _SESSION_VERBS:
        raise Rejected(
            NOT_IMPLEMENTED, f"{verb} needs a session, and this endpoint keeps none: send settings and the database with each request."
        )
    if verb == "INSERT":
        return _parse_insert(text)
    return _parse_plain(text, verb, default_format)


def _verb(text: bytes) -> str:
    for token in _tokens(text):
        if token.text != b"(":
            return token.text.decode("utf-8", "replace").upper()
    return ""


def _parse_insert(text: bytes) -> Statement:
    """Split `INSERT INTO t (…) SETTINGS … FORMAT X` from its rows. VALUES and SELECT are the engine's own business."""
    format_at: _Token | None = None
    settings_at, previous = None, b""
    for token in _tokens(text):
        if token.text.upper() == b"SETTINGS" and not token.depth and previous not in {b"INTO", b"TABLE", b"."}:
            settings_at = settings_at or token.start
        previous = token.text.upper()
        if token.depth or token.kind != "word":
            continue
        if format_at is not None:
            name = token.text.decode()
            if name.upper() == "VALUES":
                break
            end = settings_at or format_at.start
            data, settings = _after_format(text, token.end), text[end : format_at.start]
            return Statement("insert", "INSERT", text[:end], name, data, settings)
        word = token.text.upper()
        if word in {b"VALUES", b"SELECT", b"WITH"}:
            break
        if word == b"INFILE":
            raise Rejected(ACCESS_DENIED, "FROM INFILE is not supported here: send the rows as the body.", 403)
        if word == b"FORMAT":
            format_at = token
    return Statement("insert", "INSERT", text, "TabSeparated")


def _after_format(text: bytes, position: int) -> bytes:
    """The rows behind a FORMAT clause start after its line, or after the spaces where there is no newline."""
    rest = text[position:].lstrip(b" \t\f;")
    return rest.removeprefix(b"\r").removeprefix(b"\n")


def _parse_plain(text: bytes, verb: str, default_format: str) -> Statement:
    """A statement whose whole text goes to the engine: find its output format, refuse INTO OUTFILE and a second statement."""
    if b"\0" in text or len(text) > MAX_STATEMENT:
        raise Rejected(SYNTAX_ERROR, f"A statement holds no zero byte and at most {MAX_STATEMENT} bytes.")
    if not default_format.isalnum() or default_format.lower() in _CHDB_FORMATS:
        raise Rejected(73, f"Unknown format {default_format[:40]!r}.", 404)
    format_name, previous, ended = default_format, b"", -1
    for token in _tokens(text):
        if ended >= 0 and token.text != b";":
            raise Rejected(SYNTAX_ERROR, "One request runs one statement: multi-statements are not allowed.")
        word = token.text.upper() if token.kind == "word" else token.text
        if word == b";" and ended < 0:
            ended = token.start
        if word == b"OUTFILE" and previous == b"INTO":
            raise Rejected(ACCESS_DENIED, "INTO OUTFILE is not supported here: take the rows from the answer.", 403)
        if verb == "CREATE" and word in {b"TEMPORARY", b"TEMP"} and previous in {b"CREATE", b"REPLACE"}:
            raise Rejected(NOT_IMPLEMENTED, "A temporary table needs a session, and this endpoint keeps none.")
        if previous == b"FORMAT" and token.kind == "word" and not token.depth and word not in _AFTER_A_COLUMN:
            format_name = token.text.decode()
        previous = word
    sql = text if ended < 0 else text[:ended]
    return Statement("read" if verb in _READ_VERBS else "other", verb, sql, format_name, default_format=default_format)


def check_reader(statement: Statement) -> None:
    """Refuse what a request without the writer's token may not run. Raises Rejected."""
    if statement.kind != "read":
        raise Rejected(READONLY, f"{statement.verb} begins no query that only reads, and others need the writer's token.", 403)
    for token in _tokens(statement.sql):
        if token.kind == "mark" and (token.text == b"$" or token.text >= b"\x80"):
            raise Rejected(SYNTAX_ERROR, "Without the writer's token only plain ASCII may stand outside quotes, and no heredoc.")
        if token.kind == "quoted" and b"\\" in token.text:
            raise Rejected(SYNTAX_ERROR, "Without the writer's token a quoted name may hold no backslash.")
        if token.kind in {"word", "quoted"} and token.text.strip(b'`"').decode("utf-8", "replace").lower() in _READER_BANNED:
            raise Rejected(ACCESS_DENIED, f"The name {token.text.decode('utf-8', 'replace')} needs the writer's token.", 403)


def settings_of(parameters: Mapping[str, str], reader: bool, limits: Mapping[str, int]) -> dict[str, str]:
    """The engine settings among a request's parameters, under `limits` (setting → most that it may be; 0 means no limit asked).

    A reader's limits are always set, and its own values only lower them. Raises Rejected for a setting that it may not touch.
    """
    settings: dict[str, str] = {name: str(most) for name, most in limits.items()}
    for name, value in parameters.items():
        if name in TRANSPORT or name.startswith("param_"):
            continue
        if not _SETTING_NAME.fullmatch(name):
            raise Rejected(115, f"{name!r} is no setting.", 404)
        if reader and name not in READER_SETTINGS:
            raise Rejected(READONLY, f"Cannot modify '{name}' setting in readonly mode.")
        if name in limits:
            value = str(_lower(name, value, limits[name]))
        settings[name] = value
    return settings


def _lower(name: str, value: str, most: int) -> int:
    try:
        asked = int(float(value))
    except (ValueError, OverflowError):
        raise Rejected(27, f"The setting {name} takes a number, not {value!r}.") from None
    return min(asked, most) if asked > 0 else most


def bound_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """`param_x=…` as the engine takes it: name → value in ClickHouse's escaped text form."""
    return {name[6:]: value for name, value in parameters.items() if name.startswith("param_")}


_GO_HELLO = re.compile(rb"\s*SELECT displayName\(\), version\(\), revision\(\), timezone\(\)\s*")


def is_go_hello(statement: Statement) -> bool:
    """Whether this is the first question of clickhouse-go (Grafana's plugin), which it reads in the protocol's own block format."""
    return statement.format == "Native" and _GO_HELLO.fullmatch(statement.sql) is not None


def go_hello(version: str) -> bytes:
    """The answer to it: one block with its block info, and revision 0, so that it reads every later answer as plain Native.

    Source: clickhouse-go's conn_http.go (queryHello) and lib/proto/block.go; the embedded engine has no client_protocol_version.
    """
    columns = [("displayName()", "String", _string("driftline")), ("version()", "String", _string(version))]
    columns += [("revision()", "UInt32", b"\0\0\0\0"), ("timezone()", "String", _string("UTC"))]
    block = b"\x01\x00\x02\xff\xff\xff\xff\x00" + bytes([len(columns), 1])
    return block + b"".join(_string(name) + _string(kind) + b"\0" + value for name, kind, value in columns)


def _string(text: str) -> bytes:
    """A string of at most 127 bytes in the Native format."""
    return bytes([len(text)]) + text.encode()


def quote(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(text: str) -> str:
    """A quoted identifier."""
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"
