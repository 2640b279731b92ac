"""The fingerprint table: every example is a test, and a new table alone changes nothing."""

from __future__ import annotations

import pytest

from infra.core.settings import DifferSettings
from processors.diff.diffing import fold_look, fold_observation
from processors.diff.votes import looks
from processors.enrich.fingerprints import Example, Fingerprints, Rule, built_in, parse_table
from schemas.events.observations import HttpFacts, ServiceObservation
from tests.sightings import HOST, http, observation, service, sweep

CASES = [(rule, example) for rule in built_in().rules for example in rule.examples]


def shown(field: str, text: str) -> ServiceObservation:
    if field == "banner":
        return service(1, banner=text)
    if field.startswith("facts."):
        return service(1, facts={field.removeprefix("facts."): text})
    fields = {"server": {"server": text}, "title": {"title": text}, "powered_by": {"headers": {"x-powered-by": text}}}[field]
    return service(1, http=HttpFacts(status=200, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(("rule", "example"), CASES, ids=[f"{rule.name}-{n}" for n, (rule, _) in enumerate(CASES)])
def test_examples(rule: Rule, example: Example) -> None:
    found = built_in().identify(shown(rule.field, example.text))
    assert found.product == example.product
    assert found.service == rule.service
    assert (example.version or found.version) == found.version
    assert example.extra in ("", found.extra)
    assert not example.cpe or found.cpes == (example.cpe,)
    assert found.evidence[-1].startswith(f"fingerprints@{built_in().version}:{rule.name}=")


def test_names_are_unique_and_every_rule_has_an_example() -> None:
    rules = built_in().rules
    assert len({rule.name for rule in rules}) == len(rules) >= 25
    assert all(rule.examples for rule in rules)


def test_what_nmap_said_stands() -> None:
    nmap = service(22, service="ssh", product="OpenSSH", version="8.0", banner="SSH-2.0-OpenSSH_9.2p1")
    assert built_in().identify(nmap) == nmap
    other = service(22, product="Cisco SSH", banner="SSH-2.0-OpenSSH_9.2p1")
    assert built_in().identify(other) == other


def test_nothing_is_made_of_an_unknown_banner() -> None:
    unknown = service(22, banner="hello")
    assert built_in().identify(unknown) == unknown


def test_the_version_of_the_table_is_recorded() -> None:
    enriched = built_in().enrich(observation("u", 1, service(80, http=http("nginx/1.22.1"))))
    assert enriched.fingerprints == built_in().version
    assert enriched.services[0].product == "nginx"


def table(version: str, product: str) -> Fingerprints:
    return parse_table(
        f"""
        version = "{version}"
        [[rule]]
        name = "a"
        field = "banner"
        pattern = "^hello (?P<v>[0-9]+)"
        service = "greeter"
        product = "{product}"
        version = "{{v}}"
        example = []
        """
    )


def test_applying_a_table_twice_or_after_another_equals_applying_it_once() -> None:
    seen = service(1, banner="hello 1", evidence=("banner",))
    old, new = table("1", "Greeter"), table("2", "Hello daemon")
    assert new.identify(old.identify(seen)) == new.identify(new.identify(seen)) == new.identify(seen)


def test_a_new_table_alone_changes_nothing() -> None:
    settings = DifferSettings()
    old, new = table("1", "Greeter"), table("2", "Hello daemon")
    (look,) = looks(sweep("u1", 10, {HOST: [1]}))
    asset = fold_look(None, look, settings).asset
    asset = fold_observation(asset, old.enrich(observation("u1", 11, service(1, banner="hello 1"))), old, settings).asset
    (look,) = looks(sweep("u2", 60, {HOST: [1]}))
    asset = fold_look(asset, look, settings).asset
    same = fold_observation(asset, new.enrich(observation("u2", 61, service(1, banner="hello 1"))), new, settings)
    assert same.changes == ()
    differs = fold_observation(asset, new.enrich(observation("u2", 61, service(1, banner="hello 2"))), new, settings)
    assert [one.kind.value for one in differs.changes] == ["service_changed"]
    assert "product" not in differs.changes[0].summary.partition("→")[0]
