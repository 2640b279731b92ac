"""The correlator's step: differences only, global tables as inputs, time from ticks, one value a service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.core.errors import Poison
from processors.correlate.contract import Judgement, Rule, ServiceFacts
from processors.correlate.correlating import Correlator
from schemas.events.assets import ChangeKind
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.observations import Certificate, HttpFacts, ServiceObservation, TlsFacts
from schemas.ids import finding_id
from tests.correlating import START, Bench, told

REDIS = ServiceObservation(port=6379, service="redis", product="Redis key-value store", facts={"redis.auth": "none"})


def certificate(days: float, sha256: str = "ab" * 32) -> ServiceObservation:
    presented = Certificate(
        sha256=sha256,
        subject="CN=a.example",
        issuer="CN=ca",
        not_before=START - timedelta(days=1),
        not_after=START + timedelta(days=days),
        key_type="rsa",
        key_bits=2048,
    )
    return ServiceObservation(port=443, service="http", tls=TlsFacts(version="TLSv1.3", certificate=presented))


def test_an_exposure_opens_changes_and_is_resolved() -> None:
    bench = Bench()
    (opened,) = bench.change(ChangeKind.SERVICE_OPENED, REDIS)
    assert told([opened]) == {("redis-without-password", "opened")}
    assert opened.finding_id == finding_id("default", "redis-without-password", "198.18.0.7:tcp/6379")
    assert (opened.revision, opened.base_risk, opened.floor, opened.ceiling) == (1, 90, 75, 100)
    assert bench.change(ChangeKind.SERVICE_CHANGED, REDIS.model_copy(update={"banner": "another"})) == []
    (changed,) = bench.change(ChangeKind.SERVICE_CHANGED, REDIS.model_copy(update={"version": "7.0.15"}))
    assert (changed.event, changed.revision) == ("changed", 2)
    (resolved,) = bench.change(ChangeKind.SERVICE_CLOSED, REDIS)
    assert (resolved.event, resolved.revision, resolved.why) == ("resolved", 3, opened.why)
    (again,) = bench.change(ChangeKind.SERVICE_OPENED, REDIS)
    assert (again.event, again.revision, again.exposure_id) == ("opened", 4, opened.exposure_id)


def test_a_rule_gives_way_to_another() -> None:
    bench = Bench()
    bench.change(ChangeKind.SERVICE_OPENED, REDIS)
    locked = REDIS.model_copy(update={"facts": {"redis.auth": "required"}})
    assert told(bench.change(ChangeKind.SERVICE_CHANGED, locked)) == {
        ("redis-without-password", "resolved"),
        ("data-store-reachable", "opened"),
    }


def test_duplicates_and_late_records_change_nothing() -> None:
    bench = Bench()
    first = bench.made(ChangeKind.SERVICE_OPENED, REDIS)
    second = bench.made(ChangeKind.SERVICE_CLOSED, REDIS, after=60)
    assert bench.feed("changes", first)
    assert bench.feed("changes", first) == []
    assert bench.feed("changes", second)
    before = dict(bench.state.values)
    assert bench.feed("changes", second) == []
    assert bench.feed("changes", first) == []
    assert bench.state.values == before


def test_a_host_that_goes_down_takes_all_its_exposures_along() -> None:
    bench = Bench()
    bench.change(ChangeKind.SERVICE_OPENED, REDIS)
    bench.change(ChangeKind.SERVICE_OPENED, certificate(-1))
    assert told(bench.change(ChangeKind.HOST_DOWN)) == {("redis-without-password", "resolved"), ("certificate-expired", "resolved")}


def test_one_certificate_on_two_hosts_is_one_finding_at_two_places() -> None:
    bench = Bench()
    (one,) = bench.change(ChangeKind.SERVICE_OPENED, certificate(-1))
    (two,) = bench.change(ChangeKind.SERVICE_OPENED, certificate(-1), address="198.18.0.8")
    assert one.finding_id == two.finding_id
    assert one.exposure_id != two.exposure_id


def test_a_swapped_certificate_resolves_the_old_finding() -> None:
    bench = Bench()
    (old,) = bench.change(ChangeKind.SERVICE_OPENED, certificate(-1))
    assert told(bench.change(ChangeKind.CERTIFICATE_CHANGED, certificate(90, "cd" * 32))) == {(old.rule, "resolved")}


def test_ticks_expire_certificates_at_their_moment_and_cost_nothing_between() -> None:
    bench = Bench()
    assert bench.change(ChangeKind.SERVICE_OPENED, certificate(40)) == []
    before = dict(bench.state.values)
    assert bench.tick(START + timedelta(days=9)) == []
    assert bench.state.values == before
    (soon,) = bench.tick(START + timedelta(days=10, minutes=1))
    assert (soon.rule, soon.base_risk, soon.observed_at) == ("certificate-expiring", 20, START + timedelta(days=10))
    (sooner,) = bench.tick(START + timedelta(days=34))
    assert (sooner.event, sooner.base_risk) == ("changed", 40)
    assert told(bench.tick(START + timedelta(days=41))) == {("certificate-expiring", "resolved"), ("certificate-expired", "opened")}
    assert not [key for key in bench.state.values if key.startswith("due|")]


def test_a_tick_may_come_before_or_after_a_change() -> None:
    seen = certificate(40)
    outcomes = []
    for tick_first in (True, False):
        bench = Bench()
        bench.change(ChangeKind.SERVICE_OPENED, seen)
        later = bench.made(ChangeKind.SERVICE_CHANGED, seen.model_copy(update={"version": "2"}), after=11 * 86400)
        tick = START + timedelta(days=11)
        told_all = bench.tick(tick) + bench.feed("changes", later) if tick_first else bench.feed("changes", later) + bench.tick(tick)
        outcomes.append((told_all, bench.state.values))
    assert outcomes[0] == outcomes[1]


def test_inventory_by_the_longest_match_and_its_changes() -> None:
    bench = Bench()
    bench.feed("inventory", InventoryRecord(network="198.18.0.0/16", owner="net", criticality=Criticality.LOW), "default|198.18.0.0/16")
    ssh = ServiceObservation(port=22, service="ssh")
    (opened,) = bench.change(ChangeKind.SERVICE_OPENED, ssh)
    assert (opened.owner, opened.base_risk) == ("net", 10)
    critical = InventoryRecord(network="198.18.0.7/32", owner="ops", criticality=Criticality.CRITICAL, tags=("vpn",))
    (changed,) = bench.feed("inventory", critical, "default|198.18.0.7")
    assert (changed.event, changed.owner, changed.base_risk, changed.tags) == ("changed", "ops", 30, ("vpn",))
    assert bench.feed("inventory", critical, "default|198.18.0.7") == []
    assert bench.feed("inventory", InventoryRecord(zone="other", network="198.18.0.0/16"), "other|198.18.0.0/16") == []
    (back,) = bench.feed("inventory", None, "default|198.18.0.7")
    assert (back.owner, back.base_risk) == ("net", 10)


def test_flapping_is_one_finding_that_ends_when_the_service_is_steady() -> None:
    bench = Bench()
    ssh = ServiceObservation(port=22, service="ssh")
    bench.change(ChangeKind.SERVICE_OPENED, ssh)
    assert told(bench.change(ChangeKind.SERVICE_FLAPPING, ssh, after=600)) == {("service-flapping", "opened")}
    assert told(bench.change(ChangeKind.SERVICE_CHANGED, ssh.model_copy(update={"version": "2"}), after=900)) == {
        ("management-reachable", "changed")
    }
    assert bench.tick(START + timedelta(days=2)) == []
    assert told(bench.change(ChangeKind.SERVICE_OPENED, ssh, after=86400)) == {
        ("service-flapping", "resolved"),
        ("management-reachable", "changed"),
    }


def test_a_service_that_flapped_shut_is_told_of_until_it_is_steady() -> None:
    bench = Bench()
    ssh = ServiceObservation(port=22, service="ssh")
    bench.change(ChangeKind.SERVICE_OPENED, ssh)
    bench.change(ChangeKind.SERVICE_CLOSED, ssh, after=60)
    assert ("service-flapping", "opened") in told(bench.change(ChangeKind.SERVICE_FLAPPING, ssh, after=120))
    assert told(bench.change(ChangeKind.SERVICE_CLOSED, ssh, after=86400)) == {
        ("service-flapping", "resolved"),
        ("management-reachable", "resolved"),
    }


def test_only_a_service_that_opens_later_is_new() -> None:
    bench = Bench()
    web = ServiceObservation(port=8081, service="http", http=HttpFacts(status=200))
    assert told(bench.change(ChangeKind.SERVICE_OPENED, web)) == {("plain-http", "opened")}
    other = web.model_copy(update={"port": 8082})
    (_, new) = sorted(bench.change(ChangeKind.SERVICE_OPENED, other, after=120), key=lambda one: one.rule)
    assert (new.rule, new.base_risk) == ("service-new", 13)
    assert told(bench.tick(START + timedelta(days=8))) == {("service-new", "resolved"), ("plain-http", "changed")}
    bench.change(ChangeKind.SERVICE_CLOSED, other, after=9 * 86400)
    assert told(bench.change(ChangeKind.SERVICE_OPENED, other, after=10 * 86400)) == {("plain-http", "opened")}


def test_names_reach_all_services_of_the_host() -> None:
    bench = Bench()
    bench.change(ChangeKind.SERVICE_OPENED, REDIS)
    (renamed,) = bench.change(ChangeKind.HOST_UP, names=("db.example",))
    assert (renamed.event, renamed.place.names) == ("changed", ("db.example",))


def test_a_thousand_services_cost_a_thousand_steps_not_a_million() -> None:
    calls = 0

    def count(_: ServiceFacts) -> Judgement | None:
        nonlocal calls
        calls += 1
        return None

    bench = Bench(Correlator((Rule("counting", "test", "counts", count),)))
    for port in range(1, 1001):
        bench.change(ChangeKind.SERVICE_OPENED, ServiceObservation(port=port))
    assert calls == 1000


def test_a_rule_that_fails_makes_the_record_bad_and_harms_no_tick() -> None:
    def fail(facts: ServiceFacts) -> Judgement | None:
        if facts.service.port == 22:
            raise ValueError("oops")
        return None

    rules = (*Correlator()._rules, Rule("failing", "test", "fails", fail))
    bench = Bench()
    bench.change(ChangeKind.SERVICE_OPENED, certificate(40))
    bench.change(ChangeKind.SERVICE_OPENED, certificate(40).model_copy(update={"port": 22}))
    bench.step = Correlator(rules)
    with pytest.raises(Poison, match=r"rule failing failed at 198\.18\.0\.7:tcp/22: ValueError: oops"):
        bench.change(ChangeKind.SERVICE_CHANGED, certificate(40).model_copy(update={"port": 22}))
    assert [one.place.port for one in bench.tick(START + timedelta(days=11))] == [443]


def test_what_is_no_input_is_poison() -> None:
    with pytest.raises(Poison):
        Bench().feed("changes", None)


@pytest.mark.parametrize("year", [1, 9999])
def test_a_certificate_of_a_strange_year_hides_no_service(year: int) -> None:
    presented = certificate(1).tls
    assert presented is not None
    assert presented.certificate is not None
    strange = presented.certificate.model_copy(update={"not_after": datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)})
    if year == 1:
        strange = strange.model_copy(update={"not_after": datetime(1, 1, 2, tzinfo=UTC)})
    seen = certificate(1).model_copy(update={"tls": presented.model_copy(update={"certificate": strange})})
    rules = {one.rule for one in Bench().change(ChangeKind.SERVICE_OPENED, seen)}
    assert ("certificate-expired" in rules) == (year == 1)
    assert "certificate-expiring" not in rules


def test_edges_that_fail_make_the_record_bad() -> None:
    def edges(facts: ServiceFacts) -> tuple[datetime, ...]:
        return (datetime.max.replace(tzinfo=UTC) + (facts.now - START) + timedelta(days=1),)

    rule = Rule("overflowing", "test", "fails", lambda _: None, edges)
    with pytest.raises(Poison, match="edges of rule overflowing failed"):
        Bench(Correlator((rule,))).change(ChangeKind.SERVICE_OPENED, REDIS)


def test_a_closed_service_leaves_no_memory_of_its_own_and_its_revisions_go_on() -> None:
    bench = Bench()
    for port in range(1, 200):
        redis = REDIS.model_copy(update={"port": port})
        bench.change(ChangeKind.SERVICE_OPENED, redis, after=port)
        bench.change(ChangeKind.SERVICE_CHANGED, redis.model_copy(update={"version": "7"}), after=port)
        told = bench.change(ChangeKind.SERVICE_CLOSED, redis, after=port)
        assert [one.event for one in told][:1] == ["resolved"]
        top = max(one.revision for one in told)
        assert all(one.revision > top for one in bench.change(ChangeKind.SERVICE_OPENED, redis, after=port))
        bench.change(ChangeKind.SERVICE_CLOSED, redis, after=port)
    assert list(bench.state.values) == ["host|default|198.18.0.7"]
    assert len(bench.state.values["host|default|198.18.0.7"]) < 2000
