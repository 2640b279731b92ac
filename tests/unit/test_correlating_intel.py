"""The correlator and `intel`: which services a record judges again, and what stands in the end."""

from __future__ import annotations

import itertools

from processors.correlate.contract import Judgement, Rule, ServiceFacts
from processors.correlate.correlating import Correlator
from processors.correlate.judging import content
from processors.correlate.rules.versions import vulnerable
from schemas.events.assets import ChangeKind
from schemas.events.intel import AffectedProduct, IntelRecord, VersionRange
from schemas.events.observations import ServiceObservation
from tests.correlating import START, Bench, told


def test_a_record_of_intel_judges_the_services_that_it_concerns() -> None:
    bench = Bench()
    apache = ServiceObservation(
        port=8080, service="http", product="Apache httpd", version="2.4.49", cpes=("cpe:/a:apache:http_server:2.4.49",)
    )
    assert bench.change(ChangeKind.SERVICE_OPENED, apache) == []
    affected = (AffectedProduct(vendor="apache", product="http_server", versions=(VersionRange(version="2.4.49", less_than="2.4.51"),)),)
    record = IntelRecord(cve="CVE-2021-41773", kev=True, affected=affected, as_of=START)
    (opened,) = bench.feed("intel", record, record.cve)
    assert (opened.rule, opened.cves, opened.base_risk) == ("known-exploited", ("CVE-2021-41773",), 97.8)
    assert bench.feed("intel", record, record.cve) == []
    (late,) = bench.change(ChangeKind.SERVICE_OPENED, apache, address="198.18.0.9")
    assert late.cves == opened.cves
    later = {("known-exploited", "resolved"), ("vulnerable-version", "opened")}
    assert told(bench.feed("intel", record.model_copy(update={"kev": False}), record.cve)) == later
    assert [key for key in bench.state.values if key.startswith("matched|")] == ["matched|CVE-2021-41773"]
    assert told(bench.feed("intel", None, record.cve)) == {("vulnerable-version", "resolved")}
    assert not [key for key in bench.state.values if key.startswith("matched|")]


def test_a_product_that_a_record_names_no_more_is_judged_again() -> None:
    bench = Bench()
    apache = ServiceObservation(port=8080, product="Apache httpd", version="2.4.49", cpes=("cpe:/a:apache:http_server:2.4.49",))
    one = AffectedProduct(vendor="apache", product="http_server", versions=(VersionRange(less_than="2.4.51"),))
    record = IntelRecord(cve="CVE-2024-1", cvss=5.0, affected=(one,), as_of=START)
    bench.feed("intel", record, record.cve)
    assert told(bench.change(ChangeKind.SERVICE_OPENED, apache)) == {("vulnerable-version", "opened")}
    other = record.model_copy(update={"affected": (one.model_copy(update={"product": "tomcat"}),)})
    assert told(bench.feed("intel", other, record.cve)) == {("vulnerable-version", "resolved")}
    assert told(bench.feed("intel", record, record.cve)) == {("vulnerable-version", "opened")}
    rescored = record.model_copy(update={"cvss": 9.0})
    assert told(bench.feed("intel", rescored, record.cve)) == {("vulnerable-version", "changed")}
    mended = record.model_copy(update={"affected": (one.model_copy(update={"versions": (VersionRange(less_than="2.4.40"),)}),)})
    assert told(bench.feed("intel", mended, record.cve)) == {("vulnerable-version", "resolved")}


def test_a_record_of_intel_judges_only_what_it_matches_or_did() -> None:
    calls = 0

    def count(facts: ServiceFacts) -> Judgement | None:
        nonlocal calls
        calls += 1
        return vulnerable(facts)

    bench = Bench(Correlator((Rule("counting", "test", "counts", count),)))
    old, new = (
        ServiceObservation(port=80, version=version, cpes=(f"cpe:/a:apache:http_server:{version}",)) for version in ("2.4.49", "2.4.62")
    )
    for number in range(100):
        bench.change(ChangeKind.SERVICE_OPENED, new if number % 10 else old, address=f"198.18.0.{number}")
    one = AffectedProduct(vendor="apache", product="http_server", versions=(VersionRange(less_than="2.4.50"),))
    record, calls = IntelRecord(cve="CVE-2024-1", affected=(one,), as_of=START), 0
    assert (len(bench.feed("intel", record, record.cve)), calls) == (10, 10)
    elsewhere = record.model_copy(update={"cve": "CVE-2024-2", "affected": (one.model_copy(update={"product": "tomcat"}),)})
    assert (len(bench.feed("intel", elsewhere, elsewhere.cve)), calls) == (0, 10)
    wider = record.model_copy(update={"affected": (one.model_copy(update={"versions": (VersionRange(less_than="2.4.63"),)}),)})
    assert (len(bench.feed("intel", wider, record.cve)), calls) == (100, 110)
    assert (len(bench.feed("intel", record, record.cve)), calls) == (100, 210)
    assert (len(bench.feed("intel", None, record.cve)), calls) == (10, 220)


def test_the_order_of_intel_and_changes_does_not_change_what_stands() -> None:
    apache = ServiceObservation(port=8080, product="Apache httpd", version="2.4.49", cpes=("cpe:/a:apache:http_server:2.4.49",))
    debian = apache.model_copy(update={"port": 8081, "banner": "Apache/2.4.49 (Debian)"})
    one = AffectedProduct(vendor="apache", product="http_server", versions=(VersionRange(less_than="2.4.51"),))
    kev = IntelRecord(cve="CVE-2024-1", kev=True, affected=(one,), as_of=START)
    records = [
        kev,
        kev.model_copy(update={"cve": "CVE-2024-2", "kev": None, "cvss": 9.0}),
        kev.model_copy(update={"kev": False, "cvss": 5.0}),
    ]
    found = set()
    for order in itertools.permutations(range(4)):
        bench, stands = Bench(), dict[str, object]()
        for place in [step for step in order if step != 2] + [2]:  # the second word on CVE-2024-1 comes last
            heard = (
                bench.feed("intel", records[place], records[place].cve)
                if place < 3
                else [*bench.change(ChangeKind.SERVICE_OPENED, apache), *bench.change(ChangeKind.SERVICE_OPENED, debian)]
            )
            for exposure in heard:
                if exposure.event == "resolved":
                    stands.pop(exposure.exposure_id)
                else:
                    stands[exposure.exposure_id] = content(exposure)
        found.add(tuple(sorted(stands.items())))
        assert sorted(key for key in bench.state.values if key.startswith("matched|")) == ["matched|CVE-2024-1", "matched|CVE-2024-2"]
    assert [len(one) for one in found] == [2]


def test_services_without_a_version_are_not_matched() -> None:
    bench = Bench()
    one = AffectedProduct(vendor="apache", product="http_server", versions=(VersionRange(less_than="2.4.51"),))
    record = IntelRecord(cve="CVE-2024-1", cvss=9.9, kev=True, affected=(one,), as_of=START)
    bench.feed("intel", record, record.cve)
    assert bench.change(ChangeKind.SERVICE_OPENED, ServiceObservation(port=8080, cpes=("cpe:/a:apache:http_server",))) == []
