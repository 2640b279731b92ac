"""The model's server misbehaves in every way that a real one does: over a real HTTP connection on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from consumers.assess.budget import Budgets, HourlyBudget, RateLimit, budgets_of
from consumers.assess.chat import retry_after
from consumers.assess.reviewer import Reviewer
from infra.core.model_settings import ModelEndpoint, ModelSettings
from schemas.events.findings import Finding, ModelExchange
from tests.findings import AssessorBench, exposure
from tests.modelserver import Answer, Fault, ModelServer, completion, running_model

GOOD: dict[str, Any] = {
    "risk": 60,
    "explanation": "Redis is open.",
    "action": "Set a password.",
    "evidence_ids": ["u1"],
    "follow_ups": ["udp/53@198.18.0.7"],
}


def body(content: Any = None, **over: Any) -> bytes:
    return json.dumps(completion(json.dumps(GOOD) if content is None else content, **over)).encode()


def settings(url: str, **over: Any) -> ModelSettings:
    return ModelSettings(**{"name": "openai:first", "base_url": url, "api_key": SecretStr("test-key-1"), "timeout": 5.0, **over})


def pending(number: int = 7) -> Finding:
    return AssessorBench(model=True).one("exposures", exposure(title=f"Number {number}"))


def ask(model: ModelSettings, count: int = 1, budgets: Budgets | None = None) -> list[ModelExchange]:
    return asyncio.run(Reviewer(model, budgets=budgets).review_all(pending(number) for number in range(count)))


def one_by_one(*answers: Answer) -> Callable[[str], Answer]:
    left = list(answers)
    return lambda _: left.pop(0)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=None), "onnect"),
        (Fault(raw=body(), cut=200), "onnect"),
        (Fault(raw=body(), cut=0), "onnect"),
        (Fault(raw=b""), ""),
        (Fault(raw=b"<html>a proxy's page</html>"), ""),
        (Fault(raw=b"[]"), ""),
        (Fault(raw=b"null"), ""),
        (Fault(raw=b'{"choices": []}'), ""),
        (Fault(raw=b'{"choices": [{"message": null}]}'), ""),
        (Fault(raw=body(content=7)), ""),
        (Fault(raw=body(content=["a"])), ""),
        (Fault(raw=body(content=json.dumps({**GOOD, "risk": [60]}))), "risk"),
        (Fault(raw=body(content=json.dumps({**GOOD, "evidence_ids": "u1"}))), "evidence_ids"),
        (Fault(raw=body(content=json.dumps(GOOD)[:40])), "not the JSON"),
        (Fault(raw=body(content=json.dumps(GOOD)[:-5])), "not the JSON"),
        (Fault(raw=body(content=json.dumps(GOOD) + " and more")), "not the JSON"),
        (Fault(raw=body(content=json.dumps([GOOD]))), "should be a valid dictionary"),
        (Fault(status=500, raw=b'{"error": {"message": "broken"}}'), "broken"),
        (Fault(status=502, raw=b"bad gateway"), "502"),
        (Fault(status=503), ""),
        (Fault(status=429, raw=b'{"error": {"message": "too many"}}'), "too many"),
        (Fault(status=302, headers=(("location", "http://127.0.0.1:1/"),)), ""),
        (Fault(status=200, raw=body(usage="much")), ""),
    ],
)
def test_a_fault_is_told_and_asked_once_more(fault: Fault, error: str) -> None:
    with running_model(lambda _: fault) as server:
        (exchange,) = ask(settings(server.url))
    assert not exchange.ok
    assert exchange.error
    assert error in exchange.error
    assert exchange.calls == 2
    assert (exchange.risk, exchange.explanation, exchange.follow_ups) == (None, "", ())


def test_after_a_fault_the_second_answer_counts() -> None:
    for fault in (Fault(status=None), Fault(raw=body(), cut=150), Fault(status=500), Fault(raw=b"")):
        with running_model(one_by_one(fault, GOOD)) as server:
            (exchange,) = ask(settings(server.url))
        assert exchange.ok, exchange.error
        assert (exchange.calls, exchange.error) == (2, "")


def test_json_in_a_fence_is_taken() -> None:
    with running_model(lambda _: f"```json\n{json.dumps(GOOD, indent=1)}\n```\n") as server:
        (exchange,) = ask(settings(server.url))
    assert exchange.ok, exchange.error


def test_extra_keys_are_dropped() -> None:
    more = {**GOOD, "status": "resolved", "rank": "info", "cves": ["CVE-2099-1"], "nested": {"risk": 0}}
    with running_model(lambda _: more) as server:
        (exchange,) = ask(settings(server.url))
    assert exchange.ok
    assert "CVE-2099-1" not in exchange.model_dump_json(exclude={"answered"})
    with running_model(lambda _: Fault(raw=body(extra={"a": 1}, service_tier="x"))) as server:
        (exchange,) = ask(settings(server.url))
    assert exchange.ok
    assert exchange.follow_ups == ("udp/53@198.18.0.7",)


def test_an_answer_that_comes_byte_by_byte_is_given_up_in_time() -> None:
    with running_model(lambda _: Fault(raw=body(), drip=0.05)) as server:
        began = time.monotonic()
        (exchange,) = ask(settings(server.url, timeout=0.5))
        took = time.monotonic() - began
        server.release.set()
    assert not exchange.ok
    assert exchange.error == "no answer within 0.5 s"
    assert took < 10


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    fault = Fault(status=429, headers=(("retry-after", "1"),))
    with running_model(one_by_one(fault, GOOD)) as server:
        began = time.monotonic()
        (exchange,) = ask(settings(server.url))
        took = time.monotonic() - began
    assert exchange.ok
    assert 1.0 <= took < 10


def test_who_asks_for_a_long_pause_is_left_alone() -> None:
    with running_model(lambda _: Fault(status=429, headers=(("retry-after", "3600"),))) as server:
        exchanges = ask(settings(server.url, parallel=1), 3)
    assert len(server.asked) == 1
    assert [one.calls for one in exchanges] == [1, 0, 0]
    assert exchanges[2].error == "the model asked to be left alone"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (format_datetime(datetime(2026, 3, 1, 0, 1, tzinfo=UTC), usegmt=True), 60.0),
        (format_datetime(datetime(2026, 2, 1, tzinfo=UTC), usegmt=True), 0.0),
        ("99999999", 86_400.0),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("9" * 400, 86_400.0),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(said: str, seconds: float | None) -> None:
    error = RuntimeError()
    error.response = SimpleNamespace(headers={"retry-after": said})  # type: ignore[attr-defined]
    assert retry_after(error, datetime(2026, 3, 1, tzinfo=UTC)) == seconds
    assert retry_after(RuntimeError()) is None


def test_the_retry_goes_to_the_fallback() -> None:
    with running_model(lambda _: 500) as broken, running_model(lambda _: GOOD) as well:
        fallback = ModelEndpoint(name="openai:second", base_url=well.url, input_price=1000.0, output_price=2000.0)
        (exchange,) = ask(settings(broken.url, fallback=fallback))
    assert exchange.ok
    assert (exchange.model, exchange.calls) == ("openai:second", 2)
    assert exchange.cost == pytest.approx(0.321 + 0.09)
    assert (len(broken.asked), len(well.asked)) == (1, 1)
    assert (well.asked[0]["model"], well.asked[0]["authorization"]) == ("second", "Bearer none"), "the first one's key went to the second"


def test_while_the_first_rests_the_fallback_is_asked_at_once() -> None:
    resting = Fault(status=429, headers=(("retry-after", "3600"),))
    with running_model(lambda _: resting) as first, running_model(lambda _: GOOD) as second:
        exchanges = ask(settings(first.url, parallel=1, fallback=ModelEndpoint(name="openai:second", base_url=second.url)), 4)
    assert all(one.ok for one in exchanges)
    assert (len(first.asked), len(second.asked)) == (1, 4)


def test_tokens_have_a_budget_that_no_crowd_overruns() -> None:
    with running_model(lambda _: GOOD) as server:
        model = settings(server.url, parallel=8, tokens_per_hour=20_000, answer_tokens=1000)
        budgets = budgets_of(model, lambda: 0.0)
        exchanges = ask(model, 80, budgets)
    failed = [one for one in exchanges if not one.ok]
    assert failed
    assert {one.error for one in failed} == {"over the budget of 20000 tokens an hour"}
    spent = sum(one.input_tokens + one.output_tokens for one in exchanges)
    assert budgets.tokens.spent() == spent <= 20_000
    assert len(server.asked) == sum(one.calls for one in exchanges) == len(exchanges) - len(failed)


def test_money_has_a_budget() -> None:
    with running_model(lambda _: GOOD) as server:
        model = settings(server.url, parallel=1, input_price=100.0, output_price=1000.0, answer_tokens=100, money_per_hour=0.5)
        budgets = budgets_of(model, lambda: 0.0)
        exchanges = ask(model, 10, budgets)
    good = [one for one in exchanges if one.ok]
    assert 0 < len(good) < 10
    assert all(one.cost == pytest.approx(0.0771) for one in good)
    assert budgets.money.spent() == pytest.approx(sum(one.cost for one in exchanges))
    assert budgets.money.spent() <= 0.5
    assert exchanges[-1].error == "over the budget of 0.5 of money an hour"


def test_a_server_that_does_not_count_tokens_is_charged_a_guess() -> None:
    with running_model(lambda _: Fault(raw=body(usage=None))) as server:
        model = settings(server.url, answer_tokens=500)
        budgets = budgets_of(model, lambda: 0.0)
        (exchange,) = ask(model, 1, budgets)
    assert exchange.ok
    assert (exchange.input_tokens, exchange.output_tokens) == (0, 0)
    assert budgets.tokens.spent() > 800


def test_an_answer_has_a_limit() -> None:
    with running_model(lambda _: GOOD) as server:
        ask(settings(server.url, answer_tokens=777))
    assert 777 in (server.asked[0].get("max_tokens"), server.asked[0].get("max_completion_tokens"))


def test_a_rate_is_kept() -> None:
    clock = [0.0]
    rate = RateLimit(3, lambda: clock[0])
    assert [rate.turn() for _ in range(4)] == [0, 0, 0, 60]
    clock[0] = 30.0
    assert rate.turn() == 30.0
    clock[0] = 200.0
    assert rate.turn() == 0


def test_what_was_spent_before_a_restart_counts() -> None:
    clock = [10_000.0]
    budget = HourlyBudget(10, lambda: clock[0])
    budget.remember(4, timedelta(minutes=50).total_seconds())
    budget.remember(3, timedelta(minutes=10).total_seconds())
    budget.remember(9, timedelta(hours=2).total_seconds())
    assert budget.spent() == 7
    assert budget.take(4) is None
    clock[0] += 11 * 60
    assert budget.spent() == 3
    assert budget.take(7) is not None


def test_each_answer_is_told_when_it_comes() -> None:
    told: list[str] = []

    def slowly(user: str) -> dict[str, Any]:
        if "Number 0" in user:
            assert server.release.wait(10)
        return GOOD

    def each(finding: Finding, exchange: ModelExchange) -> None:
        assert exchange.ok
        told.append(finding.title)
        if len(told) == 3:
            server.release.set()

    server: ModelServer
    with running_model(slowly) as server:
        asyncio.run(Reviewer(settings(server.url, timeout=10.0)).review_all([pending(number) for number in range(4)], each))
    assert told[3] == "Number 0"
