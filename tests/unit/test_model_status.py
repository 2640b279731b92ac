"""What `driftline status` tells of the model: budgets, and what became of questions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.assess.budget import budgets_of
from consumers.assess.review import ROLE, Ledger, poll_interval_ms, remember
from consumers.assess.reviewer import Reviewer
from infra.app.status import model_line
from infra.core.model_settings import ModelEndpoint, ModelSettings
from infra.core.telemetry import TELEMETRY
from tests.findings import AssessorBench, answered, exposure


def details(model: ModelSettings) -> dict[str, Any]:
    reviewer = Reviewer(model, clock=lambda: 10_000.0)
    reviewer.budgets.begin(1234.0, 0.25)
    reviewer.tally.waiting, reviewer.tally.answered, reviewer.tally.failed = 2, 5, 1
    Ledger(model, reviewer, from_store=3).show()
    told: dict[str, Any] = json.loads(json.dumps(TELEMETRY.details[ROLE]))
    return told


def test_a_line_tells_all_of_it() -> None:
    model = ModelSettings(name="openai:a", fallback=ModelEndpoint(name="openai:b"), money_per_hour=1.5)
    line = model_line(details(model))
    assert line == (
        "model openai:a, else openai:b (0 answers): 2 waiting, 5 answered, 3 answered from exchanges, 1 failed; in the last hour "
        "calls 1 of 500, tokens 1,234 of 2,000,000, money 0.25 of 1.5, follow-ups 0 of 20; at most 120 calls a minute, 4 at once"
    )


def test_without_a_model_it_tells_nothing() -> None:
    assert model_line({}) == ""
    assert "else" not in model_line(details(ModelSettings(name="openai:a")))


def test_exchanges_of_the_last_hour_weigh_on_the_budgets() -> None:
    budgets = budgets_of(ModelSettings(name="openai:a"), lambda: 10_000.0)
    finding = AssessorBench(model=True).one("exposures", exposure())
    exchange = answered(finding, calls=2, input_tokens=100, output_tokens=20, cost=0.5, follow_ups=("tcp/22@198.18.0.7",))
    for minutes in (10, 70):
        remember(budgets, exchange.model_copy(update={"asked_at": datetime.now(UTC) - timedelta(minutes=minutes)}))
    spent = [one.spent() for one in (budgets.calls, budgets.tokens, budgets.money, budgets.follow_ups)]
    assert spent == [2, 120, 0.5, 1]


@pytest.mark.parametrize("over", [{}, {"calls_per_minute": 1, "parallel": 64}, {"timeout": 1e6}])
def test_a_batch_may_take_as_long_as_its_waits(over: dict[str, Any]) -> None:
    model = ModelSettings(name="openai:a", **over)
    assert 300_000 <= poll_interval_ms(model) <= 86_400_000
