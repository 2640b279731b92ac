"""The fingerprint table: every example is a test, and a new table alone changes nothing."""

from __future__ import annotations

import pytest

from infra.core.settings import DifferSettings
from processors.diff.diffing import fold_look, fold_observation
from processors.diff.services import merge
from processors.diff.votes import Look
from processors.enrich.cpe import as_uri, components
from processors.enrich.fingerprints import Fingerprints, built_in, without_marks
from processors.enrich.identifying import Identifier, built_in_identifier
from processors.enrich.table import Example, Rule, built_in_table, made_of
from schemas.events.observations import HttpFacts, SweepResult
from tests.sightings import HOST, http, observation, plain, service, sweep

RULES = built_in_table().rules
CASES = [(rule, example) for rule in RULES for example in rule.examples]
ASKED = {one.name for one in built_in_table().services if one.asked}
FAMILIES = "ssh http ftp smtp imap pop3 mysql postgresql mssql redis memcached amqp mqtt dns ldap smb snmp rdp vnc telnet pjl modbus s7comm"


def raw(example: Example) -> bytes:
    """The example's bytes: a character is a byte."""
    return example.text.encode("latin-1").rstrip(b"\r\n")


@pytest.mark.parametrize(("rule", "example"), CASES, ids=[f"{rule.name}-{n}" for n, (rule, _) in enumerate(CASES)])
def test_each_example_is_recognised_by_its_own_rule_first(rule: Rule, example: Example) -> None:
    texts, identifier = {rule.field: raw(example)}, built_in_identifier()
    found = identifier.best(texts, ((rule.service,),))
    assert found is not None
    assert (found.rule, found.service, found.product) == (rule.name, rule.service, rule.product)
    assert (found.version, found.extra, found.cpe, found.revision) == (example.version, example.extra, example.cpe, example.revision)
    if rule.service not in ASKED:
        assert identifier.best(texts, identifier.groups("", None)) == found, "another service's rule takes its text"


def test_the_table_is_wide_and_no_rule_is_without_example() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES) >= 250
    assert not [rule.name for rule in RULES if not rule.examples or not rule.product]
    assert set(FAMILIES.split()) <= {rule.service for rule in RULES} <= {one.name for one in built_in_table().services}
    assert len({example.text for _, example in CASES}) > 0.95 * len(CASES)


def test_names_of_products_are_sound() -> None:
    for rule, example in CASES:
        assert bool(rule.cpe) == bool(example.cpe), rule.name
        if rule.cpe:
            components(example.cpe)
            assert as_uri(example.cpe).startswith(f"cpe:/{rule.cpe[8]}:")


def test_names_of_services_are_said_once() -> None:
    services = built_in_table().services
    assert len(built_in_table().names) == sum(1 + len(one.also) for one in services)
    assert all(name == name.lower() for name in built_in_table().names)


def test_protocol_and_port_say_whose_rules_judge() -> None:
    identifier = built_in_identifier()
    assert identifier.groups("HTTPS", 22) == (("http",),)
    assert identifier.groups("", 161)[0] == ("snmp",)
    assert identifier.groups("no-such", 22)[0] == ("ssh",)
    assert "snmp" not in {one for group in identifier.groups("", 22, strict=True) for one in group}
    assert set(identifier.groups("", None)[0]) == {rule.service for rule in RULES}


def test_a_text_that_says_nothing_of_its_protocol_is_judged_only_where_that_is_known() -> None:
    words = "Linux host 3.10.0-1160.el7.x86_64 #1 SMP"
    assert built_in().identify(service(8125, banner=words)).product == ""
    assert built_in().identify(service(161, banner=words)).product == "Linux"
    assert built_in().identify(service(8125, service="snmp", banner=words)).product == "Linux"


def test_the_distribution_and_its_revision_are_facts_of_their_own() -> None:
    seen = service(22, service="ssh", product="OpenSSH", version="9.2p1", banner="SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3", facts={"a": "b"})
    found = built_in().identify(seen)
    assert found.facts == {"a": "b", "package.distribution": "Debian", "package.revision": "2+deb12u3"}
    assert found.cpes == ("cpe:/a:openbsd:openssh:9.2p1",)
    assert found.evidence[-1].startswith(f"fingerprints@{built_in().version}:openssh-debian=")
    assert without_marks(plain(found)) == plain(seen)


def test_a_revision_goes_with_the_version_that_it_belongs_to() -> None:
    before = built_in().identify(service(22, banner="SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"))
    after = built_in().identify(service(22, banner="SSH-2.0-OpenSSH_9.6"))
    assert "package.revision" not in merge(plain(before), plain(after))["facts"]
    assert merge(plain(before), plain(service(22)))["facts"]["package.revision"] == "2+deb12u3"


def test_a_rule_that_names_the_product_at_more_length_adds_the_cpe() -> None:
    found = built_in().identify(service(80, service="http", product="Apache", version="2.4.57", http=http("Apache/2.4.57 (Debian)")))
    assert (found.product, found.cpes) == ("Apache", ("cpe:/a:apache:http_server:2.4.57",))


def test_an_application_behind_a_known_server_does_not_hide_what_is_known_of_the_server() -> None:
    facts = HttpFacts(status=200, title="Grafana", server="nginx/1.22.1")
    found = built_in().identify(service(80, service="http", product="nginx", version="1.22.1", http=facts))
    assert found.cpes == ("cpe:/a:f5:nginx:1.22.1",)
    assert built_in().identify(service(80, service="http", http=facts)).product == "Grafana http"


def test_what_nmap_said_stands() -> None:
    nmap = service(22, service="ssh", product="OpenSSH", version="8.0", banner="SSH-2.0-OpenSSH_9.2p1")
    assert built_in().identify(nmap) == nmap
    other = service(22, product="Cisco SSH", banner="SSH-2.0-OpenSSH_9.2p1")
    assert built_in().identify(other) == other


def test_nothing_is_made_of_an_unknown_banner() -> None:
    unknown = service(22, banner="hello")
    assert built_in().identify(unknown) == unknown


def test_the_version_of_the_table_is_recorded() -> None:
    enriched = built_in().enrich(plain(observation("u", 1, service(80, http=http("nginx/1.22.1")))))
    assert enriched["fingerprints"] == built_in().version
    assert enriched["services"][0]["product"] == "nginx"


def table(product: str) -> Fingerprints:
    rules = f"""
        service = "greeter"
        [[rule]]
        name = "a"
        pattern = "^hello (?P<v>[0-9]+)"
        vendor = "A"
        product = "{product}"
        """
    return Fingerprints(Identifier(made_of([rules], "service = [{ name = 'greeter' }]")))


def test_applying_a_table_twice_or_after_another_equals_applying_it_once() -> None:
    seen = service(1, banner="hello 1", evidence=("banner",))
    old, new = table("Greeter"), table("Hello daemon")
    assert new.identify(old.identify(seen)) == new.identify(new.identify(seen)) == new.identify(seen)


def look_of(unit: SweepResult) -> Look:
    said = plain(unit)
    return Look(said, said["hosts"][0])


def test_a_new_table_alone_changes_nothing() -> None:
    settings = DifferSettings()
    old, new = table("Greeter"), table("Hello daemon")
    look = look_of(sweep("u1", 10, {HOST: [1]}))
    asset = fold_look(None, look, settings).asset
    asset = fold_observation(asset, old.enrich(plain(observation("u1", 11, service(1, banner="hello 1")))), old, settings).asset
    look = look_of(sweep("u2", 60, {HOST: [1]}))
    asset = fold_look(asset, look, settings).asset
    same = fold_observation(asset, new.enrich(plain(observation("u2", 61, service(1, banner="hello 1")))), new, settings)
    assert same.changes == ()
    differs = fold_observation(asset, new.enrich(plain(observation("u2", 61, service(1, banner="hello 2")))), new, settings)
    assert [one["kind"] for one in differs.changes] == ["service_changed"]
    assert "product" not in differs.changes[0]["summary"].partition("→")[0]
