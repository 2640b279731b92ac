"""A user's file of rules: its example works, its rules judge like ours, and each fault is named with its line."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.core.errors import BadInput
from infra.core.settings import CorrelatorSettings, Settings
from processors.correlate.catalogue import BUILT_IN, rules_of, with_own
from processors.correlate.contract import ServiceFacts
from processors.correlate.judging import judge
from processors.correlate.own_rules import parse
from processors.correlate.role import make_step
from schemas.codec import Codec
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.observations import HttpFacts, ServiceObservation, TlsFacts

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-rules.md"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
RULE = """[[rule]]
name = "x-open"
title = "X"
why = "Y"
action = "Z"
base = 50
"""


def example() -> str:
    found = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


def facts(port: int = 80, *, zone: str = "default", address: str = "198.18.0.7", **seen: Any) -> ServiceFacts:
    return ServiceFacts(zone=zone, address=address, service=ServiceObservation(port=port, **seen), now=NOW)


def fired(text: str, given: ServiceFacts) -> dict[str, float]:
    own = parse(text, "rules.toml")
    rules = with_own(BUILT_IN, own, "rules.toml")
    return {one.rule: one.base_risk for one in judge(rules, replace(given, tables=own.tables), (), ("e",)).values()}


JENKINS = facts(8443, service="http", http=HttpFacts(status=200, title="Dashboard [Jenkins]"))
PCI = InventoryRecord(network="198.18.0.0/24", tags=("PCI", "web"), criticality=Criticality.HIGH)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (JENKINS, {"jenkins-outside-build": 60}),
        (replace(JENKINS, address="198.18.5.1"), {}),
        (replace(JENKINS, service=ServiceObservation(port=8443, service="http")), {}),
        (replace(JENKINS, service=ServiceObservation(port=9443, service="http", http=JENKINS.service.http)), {}),
        (replace(facts(5432, service="postgresql"), inventory=PCI), {"payment-data-store": 85, "data-store-reachable": 53}),
        (facts(5432, service="postgresql"), {"data-store-reachable": 48}),
        (replace(facts(5432, service="postgresql", tls=TlsFacts(version="TLSv1.3")), inventory=PCI), {"data-store-reachable": 53}),
        (facts(80, service="http", http=HttpFacts(status=200)), {}),
        (facts(80, service="http", product="nginx", version="1.24.0"), {"end-of-life": 60}),
        (facts(80, service="http", product="nginx", version="1.26.1"), {}),
        (facts(22, service="ssh"), {"management-wrong-zone": 40}),
        (facts(22, service="ssh", zone="Office-3"), {}),
        (facts(8000, address="198.18.9.1"), {"service-unexpected": 45}),
        (facts(443, address="198.18.9.1"), {}),
        (facts(443, address="198.18.200.9", zone="guest"), {"service-unexpected": 55}),
    ],
)
def test_the_example_of_the_page(given: ServiceFacts, expected: dict[str, float]) -> None:
    assert fired(example(), given) == expected


def test_a_finding_says_which_conditions_held() -> None:
    own = parse(example(), "rules.toml")
    (one,) = judge(own.rules, JENKINS, (), ("e",)).values()
    assert (one.floor, one.ceiling) == (30, 85)
    assert one.rules[0].source == "our standard NET-7"
    assert "service http* and port 8080 or 8440-8449 and http (title *jenkins*)" in one.rules[0].input


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("[[rule]\n", 1, "is no TOML"),
        (RULE, 1, "'rule 1: when' is missing"),
        (RULE + "[rule.when]\n", 7, "states no condition"),
        (RULE + "[rule.when]\nprot = 80\n", 8, "there is no field 'rule 1: when.prot'"),
        (RULE + "when = { port = 70000 }\n", 7, "not within 1 to 65535"),
        (RULE + "when = { port = '80-' }\n", 7, "is no port"),
        (RULE + "when = { network = '198.18.0.1/8' }\n", 7, "has host bits set"),
        (RULE + "when = { service = [] }\n", 7, "at least 1 item"),
        (RULE + "when = { criticality = 'huge' }\n", 7, "low"),
        (RULE + "ceiling = 40\nwhen = { port = 80 }\n", 1, "in this order"),
        (RULE + "when = { port = 80 }\n" + RULE.replace("50", "500") + "when = { port = 80 }\n", 13, "less than or equal to 100"),
        (RULE.replace("x-open", "X open") + "when = { port = 80 }\n", 2, "rule 1: name"),
        ("[[expected]]\nnetwork = '198.18.0.0/24'\nservices = ['443']\n", 3, "no service such as tcp/443"),
        ("[[expected]]\nnetwork = '198.18.0.0/24'\nservices = ['none', 'tcp/443']\n", 3, "alone"),
        ("\nrules = []\n", 2, "there is no field 'rules'"),
    ],
)
def test_faults_are_named_with_their_line(text: str, line: int, sentence: str) -> None:
    with pytest.raises(BadInput, match=re.escape(sentence)) as caught:
        parse(text, "rules.toml")
    assert f"rules.toml:{line}:" in str(caught.value) or f"at line {line}" in str(caught.value)


def test_a_file_that_is_nested_too_deeply_is_no_toml() -> None:
    with pytest.raises(BadInput, match="is no TOML"):
        parse("off = " + "[" * 5000, "rules.toml")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        parse(RULE + "when = { prot = 80 }\ncolour = 'red'\n", "rules.toml")
    assert "when.prot" in str(caught.value)
    assert "rules.toml:8: there is no field 'rule 1: colour'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (RULE.replace("x-open", "plain-http") + "when = { port = 80 }", "Two rules share the name plain-http"),
        (RULE + "covers = ['plain-htpp']\nwhen = { port = 80 }", "a rule that does not exist: plain-htpp"),
        ("off = ['plane-http']", "a rule that does not exist: plane-http"),
    ],
)
def test_names_that_clash_or_are_not_known(text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        with_own(BUILT_IN, parse(text, "rules.toml"), "rules.toml")


def test_the_correlator_takes_the_file_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(example())
    rules, tables = rules_of(file)
    assert {"jenkins-outside-build", "payment-data-store"} <= {one.name for one in rules}
    assert "plain-http" not in {one.name for one in rules}
    assert tables.management_zones == ("office-*",)
    settings = Settings(data_dir=tmp_path, correlator=CorrelatorSettings(rules=file))
    assert make_step(settings, Codec()) is not None
    with pytest.raises(BadInput, match="can't be read"):
        rules_of(tmp_path / "none.toml")
