"""Which queries of a model are run, and which of its answers count."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.ask.inquiry import MOST_ROWS, plan_prompt, planned, reading, replied, reply_prompt, with_ids
from consumers.ask.prepared import QUESTIONS, find
from consumers.assess.answering import UnusableAnswerError
from infra.core.errors import BadInput
from tests.hijacks import HOSTILE

RAN = [
    with_ids(
        1,
        "SELECT 1",
        [
            {
                "finding_id": "f1",
                "address": "198.18.0.7",
                "title": "Redis answers",
                "risk": 90.0,
                "cves": ["CVE-2026-0001"],
                "owner": "web",
            },
            {"finding_id": "f2", "address": "198.18.0.8", "at": datetime(2026, 3, 1, tzinfo=UTC), "n": 1234, "cves": [], "owner": ""},
        ],
    )
]
GOOD: dict[str, Any] = {"answer": 'Redis at 198.18.0.7 "answers", risk 90, CVE-2026-0001.', "rows": ["1.1"]}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        " select count() from findings final where title = 'drop table; -- no' ; ",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "SELECT formatDateTime(now(), '%F') AS day, replaceAll(title, 'a', 'b') FROM driftline.findings",
        "SELECT a.title FROM findings AS a FINAL JOIN services AS s FINAL ON has(a.addresses, s.address)",
    ],
)
def test_queries_that_read_are_run(sql: str) -> None:
    assert reading(sql) == sql.strip().rstrip("; ")


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "DROP TABLE findings",
        "INSERT INTO findings SELECT * FROM findings",
        "SELECT 1; DROP TABLE findings",
        "SELECT 1 -- and",
        "SELECT 1 /* and */",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT * FROM url('http://198.51.100.1/', CSV)",
        "SELECT * FROM findings, url('http://198.51.100.1/', CSV)",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM system.users",
        "SELECT * FROM other.table",
        "SELECT * FROM numbers(1000000000)",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1 FORMAT Native",
        "SELECT * FROM remote('127.0.0.1', 'system.one')",
        "EXPLAIN SELECT 1",
        "SELECT " + "1, " * 3000 + "1",
        "KILL QUERY WHERE 1",
        "SELECT dictGet('d', 'a', 1)",
    ],
)
def test_other_queries_are_not(sql: str) -> None:
    with pytest.raises(UnusableAnswerError):
        reading(sql)


@pytest.mark.parametrize("plain", [None, [], {}, {"queries": "SELECT 1"}, {"queries": []}, {"queries": ["SELECT 1"] * 4}, {"queries": [1]}])
def test_plans_that_are_none(plain: Any) -> None:
    with pytest.raises(UnusableAnswerError):
        planned(plain)


def test_a_plan_may_refuse() -> None:
    assert planned({"queries": ["DROP TABLE x"], "refusal": "It holds no e-mail."}).refusal == "It holds no e-mail."


def test_an_answer_that_rests_on_the_rows_counts() -> None:
    assert replied(GOOD, "how many?", RAN).rows == ["1.1"]
    assert replied({**GOOD, "answer": "1234 of 2 rows on 2026-03-01."}, "", RAN).answer


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows": ["1.3"]}, "a row that does not exist: '1.3'"),
        ({"rows": []}, "cites no row"),
        ({"answer": "CVE-2020-99999"}, "a CVE that was not given"),
        ({"answer": "Look at 203.0.113.9."}, "an address that was not given"),
        ({"answer": "See https://evil.example/."}, "a link that was not given"),
        ({"answer": 'It says "all well".'}, "quotes what is not in the data"),
        ({"answer": "There are 4321 of them."}, "a figure that is in no row: 4321"),
        ({"answer": "\x00 "}, "says nothing"),
        ({"rows": "1.1"}, "rows"),
        ({"answer": None}, "answer"),
    ],
)
def test_an_answer_that_does_not_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableAnswerError, match=reason):
        replied({**GOOD, **change}, "how many?", RAN)


@pytest.mark.parametrize("hostile", HOSTILE[::10])
def test_rows_are_shown_as_data(hostile: str) -> None:
    nonce = "f00dfeedf00dfeed"
    ran = [with_ids(1, "SELECT 1", [{"title": hostile + nonce, "deep": {"a": [hostile]}}] * 100)]
    system, user = reply_prompt("what?", ran, nonce)
    first, middle, last = user.splitlines()
    assert (first, last) == (f"<<<{nonce}", f"{nonce}>>>")
    assert user.isascii()
    assert user.count(nonce) == 2
    assert hostile not in system
    (result,) = json.loads(middle)["results"]
    assert len(result["rows"]) == MOST_ROWS
    assert result["more_rows_were_left_out"] is True


@given(st.text(max_size=300))
def test_any_question_can_be_put(question: str) -> None:
    nonce = "f00dfeedf00dfeed"
    system, user = plan_prompt(question, "findings FINAL (title String)", nonce, "it failed")
    assert user.isascii()
    assert user.count(nonce) == 2
    assert nonce in system


@given(st.text(max_size=200))
def test_any_query_is_run_or_refused(sql: str) -> None:
    with contextlib.suppress(UnusableAnswerError):
        assert reading(sql).lower().startswith(("select", "with"))


def test_prepared_questions_go_by_number_and_name() -> None:
    assert find("1") is QUESTIONS[0]
    assert find("WORST") is QUESTIONS[0]
    assert find(QUESTIONS[1].question) is QUESTIONS[1]
    assert find("something else") is None
    assert len({one.name for one in QUESTIONS}) == len(QUESTIONS)
    for word in ("0", "99"):
        with pytest.raises(BadInput):
            find(word)
    for one in QUESTIONS:
        assert reading(one.sql) == one.sql
