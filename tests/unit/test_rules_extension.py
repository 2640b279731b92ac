"""Rules from other packages join the table through entry points, and a bad one is refused with a sentence."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from infra.core.errors import BadInput
from processors.correlate.catalogue import BUILT_IN, GROUP, merged
from processors.correlate.correlating import Correlator
from schemas.events.assets import ChangeKind
from schemas.events.observations import ServiceObservation
from tests.correlating import Bench, told

OUTSIDE = """
from processors.correlate.contract import Judgement, Rule, ServiceFacts


def detect(facts: ServiceFacts) -> Judgement | None:
    if facts.service.service != "finger":
        return None
    return Judgement("Finger answers", "It tells who works here.", "Turn it off.", base=33, floor=10, ceiling=50, saw="service finger")


FINGER = Rule("finger-open", "RFC 1288, 3.2", "The finger service answers.", detect)
NO_RULE = "finger"
TWICE = Rule("plain-http", "…", "A name that is taken.", detect)
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_rules_package.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))


def point(name: str) -> EntryPoint:
    return EntryPoint(name.lower(), f"outside_rules_package:{name}", GROUP)


@pytest.mark.usefixtures("outside")
def test_a_rule_from_outside_judges_like_any() -> None:
    bench = Bench(Correlator(merged(BUILT_IN, (point("FINGER"),))))
    exposures = bench.change(ChangeKind.SERVICE_OPENED, ServiceObservation(port=79, service="finger"))
    assert told(exposures) == {("finger-open", "opened")}
    assert exposures[0].base_risk == 33


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(("name", "sentence"), [("NO_RULE", "no Rule"), ("TWICE", "Two rules share the name plain-http")])
def test_a_bad_one_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        merged(BUILT_IN, (point(name),))
