"""`driftline backtest --model --prompt` over stored exchanges, against a real model server: it compares, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consumers.assess.prompting import PROMPT_HASH, SYSTEM
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, read_whole
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from schemas.events.findings import DecisionKind
from schemas.ids import decision_key
from tests.commands import invoke
from tests.findings import AssessorBench, answered, decision, exposure
from tests.modelserver import running_model

pytestmark = pytest.mark.kafka
MODEL = "openai:stored"
GOOD: dict[str, Any] = {"risk": 80, "explanation": "It is worse.", "action": "Set a password.", "evidence_ids": ["u1"], "follow_ups": []}


@pytest.fixture
def settings(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """One stored exchange whose finding still asks the same, one whose finding changed, one whose finding is gone; a label."""
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"bm{uuid4().hex[:8]}.", partitions=1))
    for name, value in (("KAFKA__BOOTSTRAP", kafka), ("KAFKA__PREFIX", made.kafka.prefix), ("KAFKA__PARTITIONS", "1")):
        monkeypatch.setenv(f"DRIFTLINE_{name}", value)
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path))
    TopicAdmin(made).apply()
    outlet = Publisher(made, Codec())
    finding = AssessorBench(model=True).one("exposures", exposure())
    outlet.publish("findings", finding.finding_id, finding)
    stored = answered(finding, model=MODEL, prompt_hash=PROMPT_HASH, evidence_ids=("u1",), input_tokens=10, cost=0.5)
    for one in (
        stored,
        stored.model_copy(update={"content_hash": "0" * 32}),
        stored.model_copy(update={"content_hash": "1" * 32, "finding_id": "x"}),
    ):
        outlet.publish("exchanges", one.content_hash, one, route=one.finding_id)
    label = decision(DecisionKind.TRUE_POSITIVE)
    outlet.publish("decisions", decision_key(label), label)
    outlet.flush()
    return made


def count(settings: Settings) -> int:
    found: list[object] = []
    for topic in ("exchanges", "findings", "targets"):
        read_whole(settings, topic, found.append)
    return len(found)


def test_another_model_is_compared_and_nothing_written(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = count(settings)
    with running_model(lambda _: GOOD) as server:
        monkeypatch.setenv("DRIFTLINE_MODEL__BASE_URL", server.url)
        result = invoke("backtest", "--model", "openai:other", "--json")
        shown = invoke("backtest", "--model", "openai:other")
        assert len(server.asked) == 2
        assert server.asked[0]["model"] == "other"
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout)
    assert (told["questions"], told["rank_differs"], told["mean_difference"]) == (1, 1, 20.0)
    assert (told["before"]["usable"], told["before"]["tokens"], told["before"]["cost"]) == (1, 10, 0.5)
    assert (told["after"]["usable"], told["after"]["tokens"]) == (1, 366)
    assert (told["before"]["mean_risk_of_true_positives"], told["after"]["mean_risk_of_true_positives"]) == (60.0, 80.0)
    assert told["left_out"] == {"its finding says something else by now": 1, "its finding is gone": 1}
    (answer,) = told["answers"]
    assert (answer["was"], answer["would_be"], answer["rank_was"], answer["rank_would_be"]) == (60.0, 80.0, "medium", "high")
    assert "1 differ" in shown.output
    assert count(settings) == before


def test_what_this_model_and_prompt_answered_is_not_asked_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running_model(lambda _: GOOD) as server:
        monkeypatch.setenv("DRIFTLINE_MODEL__BASE_URL", server.url)
        told = json.loads(invoke("backtest", "--model", MODEL, "--json").stdout)
        assert (told["mean_difference"], server.asked) == (0.0, [])
        prompt = tmp_path / "prompt.txt"
        prompt.write_text(SYSTEM + "\nBe brief.")
        told = json.loads(invoke("backtest", "--model", MODEL, "--prompt", str(prompt), "--json").stdout)
        assert told["mean_difference"] == 20.0
        assert "Be brief." in server.asked[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{nonce} {other}", "can't be filled in"),
        ("No marks.", "does not name the marks"),
        ("{nonce} {base.__class__}", "is unknown"),
        ("{nonce", "filled"),
    ],
)
def test_a_prompt_that_can_not_be_used_is_refused(settings: Settings, tmp_path: Path, text: str, reason: str) -> None:
    del settings
    (tmp_path / "prompt.txt").write_text(text)
    result = invoke("backtest", "--model", MODEL, "--prompt", str(tmp_path / "prompt.txt"))
    assert result.exit_code == 1
    assert reason in str(result.exception)


def test_without_a_model_it_says_so(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text(SYSTEM)
    result = invoke("backtest", "--prompt", str(tmp_path / "prompt.txt"))
    assert "No model is named." in str(result.exception)
    del settings
