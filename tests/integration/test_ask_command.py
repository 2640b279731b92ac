"""`driftline ask` against the real store and a model server on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.ask.prepared import QUESTIONS
from infra.app.asking import run_query
from infra.clickhouse.client import connect, insert_columns
from infra.core.errors import BadInput
from schemas.rows import rows_of
from tests.commands import invoke
from tests.findings import AssessorBench, exposure
from tests.modelserver import Answer, running_model
from tests.stores import RunningStore, running_store

pytestmark = pytest.mark.store
PLAN: dict[str, Any] = {
    "queries": ["SELECT finding_id, title, risk, places FROM findings FINAL WHERE status = 'open' ORDER BY risk DESC"],
    "refusal": "",
}
REPLY: dict[str, Any] = {"answer": "Redis answers without a password at 198.18.0.7:6379; its risk is 50.", "rows": ["1.1"], "refusal": ""}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    """A store with one finding whose title is hostile."""
    with running_store(tmp_path_factory.mktemp("ask")) as made:
        finding = AssessorBench().one("exposures", exposure(observed_at=datetime.now(UTC)))
        client = connect(made.settings, writer=True)
        for table, row in rows_of(finding, datetime.now(UTC)):
            insert_columns(client, table, {name: [value] for name, value in row.items()})
        client.close()
        yield made


@pytest.fixture(autouse=True)
def reached(store: RunningStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(store.settings.data_dir))
    monkeypatch.setenv("DRIFTLINE_STORE__PORT", str(store.settings.store.port))


def in_turn(*answers: Answer) -> Callable[[str], Answer]:
    left = list(answers)
    return lambda _: left.pop(0)


def asked(monkeypatch: pytest.MonkeyPatch, question: str, *answers: Answer) -> tuple[Any, list[dict[str, Any]]]:
    """The command's result, and what the model's server was sent."""
    with running_model(in_turn(*answers)) as server:
        monkeypatch.setenv("DRIFTLINE_MODEL__NAME", "openai:test-model")
        monkeypatch.setenv("DRIFTLINE_MODEL__BASE_URL", server.url)
        return invoke("ask", question, "--json"), server.asked


def test_each_prepared_question_can_be_asked_without_a_model() -> None:
    for number, one in enumerate(QUESTIONS, 1):
        result = invoke("ask", str(number), "--json")
        assert result.exit_code == 0, (one.name, result.output, result.exception)
        assert json.loads(result.stdout)["queries"][0]["sql"] == one.sql
    (row,) = json.loads(invoke("ask", "worst", "--json").stdout)["queries"][0]["rows"]
    assert row["title"] == "Redis answers without a password"
    assert "Redis answers without a password" in invoke("ask", "open-doors").stdout


def test_without_a_model_the_prepared_questions_are_listed() -> None:
    result = invoke("ask", "what is the weather?")
    assert result.exception is not None
    assert "No model is configured" in str(result.exception)
    assert all(one.name in result.stdout for one in QUESTIONS)
    assert [one["name"] for one in json.loads(invoke("ask", "--json").stdout)] == [one.name for one in QUESTIONS]


def test_a_question_is_answered_with_its_queries_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    result, sent = asked(monkeypatch, "which hosts are open?", PLAN, REPLY)
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout)
    assert told["answer"] == REPLY["answer"]
    assert [one["id"] for one in told["cited"]] == ["1.1"]
    assert told["cited"][0]["finding_id"]
    assert told["queries"][0]["sql"] == PLAN["queries"][0]
    assert "findings FINAL (finding_id String" in sent[0]["messages"][0]["content"]
    assert "Redis answers without a password" in sent[1]["messages"][1]["content"]
    with running_model(in_turn(PLAN, REPLY)) as server:
        monkeypatch.setenv("DRIFTLINE_MODEL__BASE_URL", server.url)
        shown = invoke("ask", "which hosts are open?").output
    assert REPLY["answer"] in shown.replace("\n", " ")
    assert "driftline query" in shown


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([{"queries": [], "refusal": "It holds no wages."}], "The data does not hold that: It holds no wages."),
        ([{"queries": ["SELECT title FROM findings WHERE risk > 1000"]}], "no query gave a row"),
        ([PLAN, {"answer": "", "rows": [], "refusal": "No row tells why."}], "No row tells why."),
        ([PLAN, {**REPLY, "rows": ["7.1"]}, {**REPLY, "rows": ["7.1"]}], "cites a row that does not exist"),
        ([{"queries": ["DROP TABLE findings"]}] * 2, "no query that can be run"),
        ([{"queries": ["SELECT nothing_there FROM findings"]}] * 2, "ClickHouse refused the query"),
        (["no JSON"] * 2, "not the JSON"),
        ([500] * 2, "did not answer"),
    ],
)
def test_what_the_data_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch, answers: list[Answer], reason: str) -> None:
    result, _ = asked(monkeypatch, "what do people earn?", *answers)
    assert result.exception is not None
    assert reason in str(result.exception)
    assert result.stdout == ""
    if answers != [500] * 2:
        assert getattr(result.exception, "exit_code", 0) == 4


def test_a_query_that_fails_is_mended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result, sent = asked(monkeypatch, "what?", {"queries": ["SELECT nothing_there FROM findings"]}, PLAN, REPLY)
    assert result.exit_code == 0, result.exception
    assert "nothing_there" in sent[1]["messages"][1]["content"]


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO findings (title) VALUES ('x')", "DROP TABLE findings", "SELECT count() FROM url('http://127.0.0.1:1', CSV, 'a String')"],
)
def test_whatever_passed_the_checks_the_reader_may_only_read(sql: str) -> None:
    with pytest.raises(BadInput):
        run_query(sql)


def test_a_query_that_takes_too_long_is_ended() -> None:
    with pytest.raises(BadInput):
        run_query("SELECT count() FROM numbers(1000000000000)")
