"""The model stage against a real HTTP server on loopback that speaks the OpenAI API: good answers, bad ones, none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from pydantic import SecretStr

from consumers.assess import review
from consumers.assess.budget import Budgets, HourlyBudget, budgets_of
from consumers.assess.reviewer import Reviewer
from infra.core.model_settings import ModelSettings
from infra.core.settings import Settings
from schemas.events.findings import Finding, ModelExchange
from tests.findings import AssessorBench, exposure
from tests.modelserver import ModelServer, running_model

KEY = "test-key-123"
GOOD: dict[str, Any] = {
    "risk": 60,
    "explanation": "Redis is open.",
    "action": "Set a password.",
    "evidence_ids": ["u1"],
    "follow_ups": ["tcp/22@198.18.0.7"],
}


def settings(server: ModelServer, **over: Any) -> ModelSettings:
    values: dict[str, Any] = {"name": "openai:test-model", "base_url": server.url, "api_key": SecretStr(KEY), "timeout": 10.0, **over}
    return ModelSettings(**values)


def pending(number: int = 7) -> Finding:
    return AssessorBench(model=True).one("exposures", exposure(title=f"Number {number}", address=f"198.18.0.{number}"))


def ask(reviewer: Reviewer, *findings: Finding) -> list[ModelExchange]:
    return asyncio.run(reviewer.review_all(findings or (pending(),)))


def test_a_good_answer() -> None:
    with running_model(lambda _: GOOD) as server:
        (exchange,) = ask(Reviewer(settings(server)))
    assert exchange.ok
    assert (exchange.risk, exchange.explanation, exchange.evidence_ids) == (60, "Redis is open.", ("u1",))
    assert exchange.follow_ups == ("tcp/22@198.18.0.7",)
    assert (exchange.input_tokens, exchange.output_tokens) == (321, 45)
    assert exchange.content_hash == pending().review.content_hash
    (request,) = server.asked
    assert request["path"] == "/v1/chat/completions"
    assert request["authorization"] == f"Bearer {KEY}"
    assert request["response_format"]["type"] == "json_schema"
    assert request["messages"][1]["content"] in exchange.asked


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("I can't help with that.", "it is not the JSON that was asked for"),
        ("", "it is not the JSON that was asked for"),
        ({"risk": "high"}, "'explanation' is missing"),
        ({**GOOD, "evidence_ids": ["made-up"]}, "cites evidence that does not exist"),
        (500, "the model is not well"),
        (429, "the model is not well"),
        (401, "the model is not well"),
    ],
)
def test_bad_answers_are_asked_once_more_and_then_told(answer: Any, error: str) -> None:
    with running_model(lambda _: answer) as server:
        (exchange,) = ask(Reviewer(settings(server)))
    assert not exchange.ok
    assert exchange.risk is None
    assert error in exchange.error
    assert len(server.asked) == 2


def test_a_second_answer_may_be_good() -> None:
    answers: list[Any] = [500, GOOD]
    with running_model(lambda _: answers.pop(0)) as server:
        (exchange,) = ask(Reviewer(settings(server)))
    assert exchange.ok
    assert exchange.error == ""


def test_a_model_that_does_not_answer_is_given_up_in_time() -> None:
    with running_model(lambda _: GOOD) as server:
        server.slow = True
        (exchange,) = ask(Reviewer(settings(server, timeout=0.3)))
        server.release.set()
    assert not exchange.ok
    assert "time" in exchange.error.lower() or "no answer" in exchange.error


def test_nobody_there() -> None:
    with running_model(lambda _: GOOD) as server:
        pass
    (exchange,) = ask(Reviewer(settings(server)))
    assert not exchange.ok
    assert "onnect" in exchange.error


def test_the_key_is_never_in_an_exchange() -> None:
    with running_model(lambda _: 401) as server:
        (exchange,) = ask(Reviewer(settings(server)))
    assert "Bearer ***" in exchange.error
    assert KEY not in exchange.model_dump_json()


def test_a_provider_that_does_not_exist_is_told() -> None:
    (exchange,) = ask(Reviewer(ModelSettings(name="nobody:model")))
    assert not exchange.ok
    assert "nobody" in exchange.error


def test_at_most_so_many_at_once() -> None:
    def slowly(_: str) -> dict[str, Any]:
        threading.Event().wait(0.1)
        return GOOD

    with running_model(slowly) as server:
        exchanges = ask(Reviewer(settings(server, parallel=2)), *(pending(number) for number in range(1, 9)))
    assert all(one.ok for one in exchanges)
    assert len({one.content_hash for one in exchanges}) == 8
    assert server.most_at_once == 2


def test_calls_and_follow_ups_have_a_budget() -> None:
    clock = [0.0]
    with running_model(lambda _: GOOD) as server:
        reviewer = Reviewer(settings(server, calls_per_hour=2, followups_per_hour=1, parallel=1), clock=lambda: clock[0])
        first = ask(reviewer, pending(1).model_copy(update={"places": pending().places}))
        second = ask(reviewer, pending(2).model_copy(update={"places": pending().places}))
        (third,) = ask(reviewer, pending(3))
        clock[0] = 3601.0
        (fourth,) = ask(reviewer, pending(3))
    assert [len(one.follow_ups) for one in first + second] == [1, 0]
    assert not third.ok
    assert third.error == "over the budget of 2 calls an hour"
    assert fourth.ok


def test_a_reviewer_that_begins_anew_goes_on_with_the_same_budget() -> None:
    with running_model(lambda _: GOOD) as server:
        model = settings(server, calls_per_hour=1)
        budgets = budgets_of(model, lambda: 0.0)
        (first,), (second,) = (ask(Reviewer(model, budgets=budgets), pending(number)) for number in (1, 2))
    assert (first.ok, second.ok, second.error) == (True, False, "over the budget of 1 calls an hour")


def test_a_loop_that_breaks_begins_anew_with_the_same_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Budgets | None] = []
    stop = threading.Event()

    def breaks(_: Settings, ended: threading.Event, budgets: Budgets | None = None) -> None:
        seen.append(budgets)
        if len(seen) == 2:
            ended.set()
        raise RuntimeError("broken")

    monkeypatch.setattr(review, "review_findings", breaks)
    monkeypatch.setattr(review, "RESTART_SECONDS", 0.0)
    review.keep_reviewing(Settings(), stop)
    assert len(seen) == 2
    assert seen[0] is seen[1] is not None


def test_a_budget_slides() -> None:
    clock = [0.0]
    budget = HourlyBudget(2, lambda: clock[0])
    assert [bool(budget.take()) for _ in range(3)] == [True, True, False]
    clock[0] = 3599.0
    assert not budget.take()
    clock[0] = 3600.0
    assert budget.take()
    assert not HourlyBudget(0, lambda: 0.0).take()


def test_langchain_is_imported_only_by_who_asks_a_model() -> None:
    script = "import sys, consumers.assess.role; sys.exit(any(name.startswith('langchain') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
