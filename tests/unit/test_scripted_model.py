"""The scripted model of the demo answers over HTTP as a model would, and its answers pass the checks like any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from consumers.assess.reviewer import Reviewer
from infra.core.model_settings import ModelSettings
from infra.local.scripted_model import NAME, ScriptedModel
from schemas.events.findings import Finding, ModelExchange
from tests.findings import AssessorBench, exposure


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    made = ScriptedModel({"redis-without-password": 16379})
    yield made
    made.close()


def reviewed(model: ScriptedModel, finding: Finding) -> ModelExchange:
    (exchange,) = asyncio.run(Reviewer(ModelSettings(name=NAME, base_url=model.url)).review_all([finding]))
    return exchange


def test_it_explains_cites_and_asks_for_one_look(model: ScriptedModel) -> None:
    finding = AssessorBench(model=True).one("exposures", exposure(why="Anyone can read it. It has CVE-2026-0001."))
    exchange = reviewed(model, finding)
    assert exchange.ok, exchange.error
    assert (exchange.risk, exchange.evidence_ids, exchange.follow_ups) == (50.0, ("u1", "u2"), ("tcp/16379@198.18.0.7",))
    assert exchange.explanation.startswith("Anyone can read it. The rule redis-without-password")
    assert exchange.action == "Set a password."
    assert exchange.input_tokens > 0


def test_where_no_rule_is_in_its_script_it_asks_for_nothing(model: ScriptedModel) -> None:
    exchange = reviewed(model, AssessorBench(model=True).one("exposures", exposure(rule="another-rule")))
    assert exchange.ok, exchange.error
    assert exchange.follow_ups == ()


@pytest.mark.parametrize("content", ["", "no data", "<<<n\n[]\nn>>>", "<<<n\n{}\nn>>>"])
def test_what_shows_no_finding_is_an_error(model: ScriptedModel, content: str) -> None:
    answer = httpx.post(f"{model.url}/chat/completions", json={"model": "scripted", "messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 400
    assert "the script has no answer" in answer.json()["error"]["message"]
