"""What pydantic found wrong, said for people."""

from __future__ import annotations

import json

import pytest
from pydantic import SecretStr, ValidationError

from infra.core.errors import BadInput
from infra.core.section import Section
from infra.core.settings import load_settings
from schemas.events.targets import TargetRequest
from schemas.wording import what_is_wrong

NEEDED = {"request_id": "r", "targets": ["198.18.0.1"], "cause": "pushed", "requested_by": "ana"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"targts": ["198.18.0.1"]}, "there is no field 'targts'; 'targets' is missing"),
        ({"targets": "198.18.0.1"}, "targets: should be a valid array"),
        ({"targets": ["198.18.0.1"], "zone": 7}, "zone: should be a valid string"),
    ],
)
def test_unknown_and_missing_fields_come_first(fields: dict[str, object], said: str) -> None:
    whole = {name: value for name, value in NEEDED.items() if name != "targets"} | fields
    with pytest.raises(ValidationError) as caught:
        TargetRequest.model_validate_json(json.dumps(whole))
    assert what_is_wrong(caught.value) == said


def test_many_faults_are_counted_and_a_whole_has_a_name() -> None:
    with pytest.raises(ValidationError) as caught:
        TargetRequest.model_validate({"a": 1, "b": 2, "c": 3, "d": 4, **NEEDED})
    assert what_is_wrong(caught.value) == "there is no field 'a'; there is no field 'b'; there is no field 'c'; and 1 more"
    with pytest.raises(ValidationError) as caught:
        TargetRequest.model_validate_json("[]")
    assert what_is_wrong(caught.value, "the line").startswith("the line: should be an object")


def test_no_value_is_repeated() -> None:
    class Holder(Section):
        """Something with a secret."""

        token: SecretStr

    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"token": 7})
    assert "7" not in what_is_wrong(caught.value)


def test_a_wrong_setting_is_named_as_in_the_tree_and_as_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_BROKER__PORT", "abc")
    monkeypatch.setenv("DRIFTLINE_SCANNER__NOPE", "1")
    with pytest.raises(BadInput) as caught:
        load_settings()
    assert "broker.port (DRIFTLINE_BROKER__PORT): should be a valid integer" in caught.value.message
    assert "there is no field 'scanner.nope (DRIFTLINE_SCANNER__NOPE)'" in caught.value.message
