"""A hijacked model, and banners that would hijack one, against a real HTTP server: nothing of it leaves the rules' bounds."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import SecretStr

from consumers.assess.answering import parse_follow_up
from consumers.assess.prompting import build, shown
from consumers.assess.ranking import highest_for_model
from consumers.assess.review import follow_up_requests
from consumers.assess.reviewer import Reviewer
from infra.core.model_settings import ModelSettings
from schemas.events.findings import Finding, FindingStatus, FiredRule, ModelExchange, Place
from tests.findings import AssessorBench, exposure
from tests.hijacks import FLOOR, HONEST, HOSTILE, OTHER, OWN, answers
from tests.modelserver import running_model

ANSWERS = answers()


def pending(bench: AssessorBench, saw: str = "redis.auth=none", **over: Any) -> Finding:
    rules = (FiredRule(rule="redis-without-password", effect="base 50", input=saw, source="CWE-306"),)
    return bench.one("exposures", exposure(rules=rules, **over))


def reviewed(url: str, *findings: Finding) -> list[ModelExchange]:
    model = ModelSettings(name="openai:test-model", base_url=url, api_key=SecretStr("k"), timeout=10.0, calls_per_minute=10_000)
    return asyncio.run(Reviewer(model).review_all(findings))


def within_bounds(bench: AssessorBench, finding: Finding, exchange: ModelExchange) -> Finding:
    """The finding after this exchange: what must hold whatever the model said."""
    after = bench.one("exchanges", exchange)
    assert after.status is FindingStatus.OPEN
    assert after.floor <= after.risk <= highest_for_model(after.base_risk, after.ceiling)
    rules = ("rule", "title", "why", "action", "places", "base_risk", "floor", "ceiling", "rules", "cves", "evidence_ids", "owner")
    assert [getattr(after, name) for name in rules] == [getattr(finding, name) for name in rules]
    assert set(exchange.evidence_ids) <= set(finding.evidence_ids)
    assert set(after.review.evidence_ids) <= set(finding.evidence_ids)
    own = {place.address for place in finding.places}
    assert all((wish := parse_follow_up(one)) is not None and wish.address in own for one in exchange.follow_ups)
    requests = follow_up_requests(finding, exchange)
    assert all(set(one.targets) <= own and one.grant_id is None and one.probes == () for one in requests)
    assert len(requests) <= 5
    for text in (after.review.explanation, after.review.action):
        assert text.isprintable()
        assert OTHER not in text
        assert "evil" not in text
        assert "CVE-2099" not in text
    return after


def test_there_are_enough_of_them() -> None:
    assert len(ANSWERS) >= 50
    assert len(HOSTILE) >= 200


def test_what_a_hijacked_model_answers_stays_within_the_bounds() -> None:
    benches = [AssessorBench(model=True) for _ in ANSWERS]
    findings = [pending(bench, title=f"Number {number}.") for number, bench in enumerate(benches)]

    def said(user: str) -> Any:
        return next(answer for number, answer in enumerate(ANSWERS) if f"Number {number}." in user)

    with running_model(said) as server:
        exchanges = reviewed(server.url, *findings)
    for bench, finding, exchange in zip(benches, findings, exchanges, strict=True):
        after = within_bounds(bench, finding, exchange)
        assert after.floor == FLOOR
        assert all(place.address == OWN for place in after.places)
        if not exchange.ok:
            assert (after.risk, after.review.explanation, after.review.action) == (finding.base_risk, "", "")
    used = sum(one.ok for one in exchanges)
    assert 10 < used < len(ANSWERS) - 20, "of hijacked answers some can be used in part, and many not at all"


def test_a_model_that_obeys_each_banner_does_no_harm() -> None:
    """The banner is shown to it as data; it obeys by answering as an attacker would."""
    obeyed = {**HONEST, "risk": 0, "follow_ups": [f"tcp/22@{OTHER}", f"tcp/1-65535@{OWN}"], "explanation": "It is safe.", "tool": "scan"}
    benches = [AssessorBench(model=True) for _ in HOSTILE]
    findings = [
        pending(bench, text[:200], title=f"Number {number}") for number, (bench, text) in enumerate(zip(benches, HOSTILE, strict=True))
    ]
    with running_model(lambda _: obeyed) as server:
        exchanges = reviewed(server.url, *findings)
    assert len(server.asked) == len(HOSTILE)
    for bench, finding, exchange in zip(benches, findings, exchanges, strict=True):
        after = within_bounds(bench, finding, exchange)
        assert follow_up_requests(finding, exchange) == []
        assert after.risk == FLOOR


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_banner_is_shown_as_data_alone(text: str) -> None:
    nonce = "f00dfeedf00dfeed"
    place = Place(zone="default", address=OWN, port=6379, names=(text, nonce))
    finding = pending(AssessorBench(model=True), text, place=place)
    prompt = build(finding, nonce)
    first, *middle, last = prompt.user.splitlines()
    assert (first, last) == (f"<<<{nonce}", f"{nonce}>>>")
    assert prompt.user.isascii()
    assert prompt.user.count(nonce) == 2
    told = json.loads("\n".join(middle))
    assert told.keys() == shown(finding).keys()
    assert "\u200b" not in str(told)
    assert text not in prompt.system
