from __future__ import annotations

import pytest

from infra.local.store.dialect import Rejected, bound_parameters, check_reader, parse, quote, quote_name, settings_of

LIMITS = {"max_execution_time": 30, "max_result_rows": 1000}


@pytest.mark.parametrize(
    ("text", "kind", "format_"),
    [
        ("SELECT 1", "read", "TabSeparated"),
        ("(SELECT 1) UNION ALL (SELECT 2) FORMAT JSON", "read", "JSON"),
        ("-- note\n/* FORMAT CSV */ with 1 as x select x\n FORMAT Native", "read", "Native"),
        ("SELECT 'FORMAT CSV' AS format", "read", "TabSeparated"),
        ("SELECT format('{}', 1) FORMAT CSV SETTINGS max_threads = 1", "read", "CSV"),
        ("SELECT 1 ;\n -- end", "read", "TabSeparated"),
        ("SELECT format FROM t", "read", "TabSeparated"),
        ("SELECT a FROM t ORDER BY format DESC", "read", "TabSeparated"),
        ("show tables", "read", "TabSeparated"),
        ("CREATE TABLE t (a Int8) ENGINE = Memory", "other", "TabSeparated"),
        ("KILL QUERY WHERE 1", "other", "TabSeparated"),
    ],
)
def test_a_statement_is_read(text: str, kind: str, format_: str) -> None:
    statement = parse(text.encode())
    assert (statement.kind, statement.format, statement.data) == (kind, format_, None)


@pytest.mark.parametrize(
    ("text", "sql", "format_", "data"),
    [
        (b"INSERT INTO t (a, b) FORMAT Native\n\x01\x00'\xff", b"INSERT INTO t (a, b) ", "Native", b"\x01\x00'\xff"),
        (b"INSERT INTO t FORMAT CSV 1,2\n", b"INSERT INTO t ", "CSV", b"1,2\n"),
        (b"INSERT INTO t FORMAT CSV\r\n1,2", b"INSERT INTO t ", "CSV", b"1,2"),
        (
            b"insert into `format` (a) SETTINGS x='y' format JSONEachRow\n{}",
            b"insert into `format` (a) SETTINGS x='y' ",
            "JSONEachRow",
            b"{}",
        ),
        (b"INSERT INTO t (format) FORMAT TSV\n\n", b"INSERT INTO t (format) ", "TSV", b"\n"),
        (b"INSERT INTO t VALUES (1, ';')", b"INSERT INTO t VALUES (1, ';')", "TabSeparated", None),
        (b"INSERT INTO t SELECT 1 FORMAT CSV", b"INSERT INTO t SELECT 1 FORMAT CSV", "TabSeparated", None),
        (b"INSERT INTO t FORMAT Values (1)", b"INSERT INTO t FORMAT Values (1)", "TabSeparated", None),
    ],
)
def test_an_insert_is_split_from_its_rows(text: bytes, sql: bytes, format_: str, data: bytes | None) -> None:
    statement = parse(text)
    assert (statement.kind, statement.sql + statement.settings, statement.format, statement.data) == ("insert", sql, format_, data)
    assert b"SETTINGS" not in statement.sql


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  -- only a comment",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE t",
        "SELECT 'open",
        "SELECT `open",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT 1 into/**/outfile '/tmp/x'",
        "SET max_threads = 1",
        "USE system",
        "CREATE TEMPORARY TABLE x (a Int8)",
        "CREATE OR REPLACE TEMPORARY TABLE x (a Int8)",
        "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT TSV",
        "SELECT '\0'",
    ],
)
def test_nobody_may_send(text: str) -> None:
    with pytest.raises(Rejected):
        parse(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (1)",
        "DROP TABLE t",
        "KILL QUERY WHERE 1",
        "SYSTEM SHUTDOWN",
        "GRANT ALL ON *.* TO default",
        "EXECUTE AS default SELECT 1",
        "exit",
        "?? what is open",
        "SELECT file('/etc/passwd')",
        "SELECT `file`('/etc/passwd')",
        "SELECT \"FILE\" ('/etc/passwd')",
        "SELECT * APPLY(file) FROM (SELECT '/etc/passwd')",
        "SELECT 1 /* ' */, file('/etc/passwd') -- '",
        "SELECT 'it''s', file('/etc/passwd')",
        "SELECT '\\', file(', file('/etc/passwd')",
        r"SELECT `fi\x6ce`('/etc/passwd')",
        "SELECT $a$ ' $a$, file('x') --'",
        "SELECT ‘ ' ’, file('x') --'",
        "SELECT * FROM Python(x)",
        "SELECT * FROM system.stack_trace",
    ],
)
def test_a_reader_may_not_send(text: str) -> None:
    with pytest.raises(Rejected):
        check_reader(parse(text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM findings WHERE title LIKE '%file(%' AND note = 'naïve; -- $'",
        "SELECT profile, filename FROM t",
        "EXPLAIN SELECT 1",
        "DESCRIBE TABLE t",
        "EXISTS TABLE t",
        "-- größe\nSELECT 1",
        "SELECT 'größe' AS `größe`",
    ],
)
def test_a_reader_may_send(text: str) -> None:
    check_reader(parse(text.encode()))


def test_a_readers_settings_only_lower_its_limits() -> None:
    asked = {"max_execution_time": "5", "max_result_rows": "999999999", "final": "1", "param_x": "y", "query_id": "q", "session_id": "s"}
    assert settings_of(asked, True, LIMITS) == {"max_execution_time": "5", "max_result_rows": "1000", "final": "1"}
    assert settings_of({"max_execution_time": "0"}, True, LIMITS)["max_execution_time"] == "30"
    assert settings_of({"max_execution_time": "-1"}, True, LIMITS)["max_execution_time"] == "30"
    for value in ("nan", "inf", "x", "1e999"):
        with pytest.raises(Rejected):
            settings_of({"max_execution_time": value}, True, LIMITS)
    for name in ("allow_ddl", "profile", "format_schema", "output_format_schema", "x y"):
        with pytest.raises(Rejected):
            settings_of({name: "1"}, True, LIMITS)


def test_a_writers_settings_pass() -> None:
    assert settings_of({"insert_deduplication_token": "a'b", "readonly": "0"}, False, {}) == {"insert_deduplication_token": "a'b"}


def test_parameters_and_quotes() -> None:
    assert bound_parameters({"param_a": "1", "database": "d"}) == {"a": "1"}
    with pytest.raises(Rejected):
        parse(b"SELECT 1", "DataFrame")
    assert quote("a'b\\") == "'a\\'b\\\\'"
    assert quote_name("a`b") == "`a\\`b`"
