"""Exposures and findings of the baseline: what stood at the first look, known exploitation aside."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from processors.correlate.contract import Judgement, Rule, ServiceFacts
from processors.correlate.correlating import Correlator
from schemas.events.assets import ChangeKind
from schemas.events.findings import Exposure, ExposureEvent
from schemas.events.intel import IntelRecord
from schemas.events.observations import Certificate, ServiceObservation, TlsFacts
from schemas.events.operations import Tick
from schemas.ids import content_id
from tests.correlating import START, Bench
from tests.findings import START as FINDINGS_START
from tests.findings import AssessorBench, exposure
from tests.unit.test_correlating import REDIS

CVE = "CVE-2026-0001"
VULNERABLE = Rule(
    "old-version", "test", "", lambda facts: Judgement("t", "w", "a", 50, 20, 90, "saw", cves=(CVE,)) if facts.service.version else None
)


def versions(facts: ServiceFacts) -> Judgement | None:
    return VULNERABLE.detect(facts)


def opened(seen: ServiceObservation, baseline: bool = True, bench: Bench | None = None, **over: Any) -> Exposure:
    bench = bench or Bench()
    (one,) = bench.change(ChangeKind.SERVICE_OPENED, seen, baseline=baseline, **over)
    return one


def test_what_the_first_look_finds_is_marked_and_nothing_else() -> None:
    assert opened(REDIS).baseline
    assert not opened(REDIS, baseline=False).baseline


def test_what_changed_since_is_not_of_the_baseline() -> None:
    bench = Bench()
    locked = REDIS.model_copy(update={"facts": {"redis.auth": "required"}})
    bench.change(ChangeKind.SERVICE_OPENED, locked, baseline=True)
    told = {one.rule: one for one in bench.change(ChangeKind.SERVICE_CHANGED, REDIS, 60, baseline=True)}
    assert not told["redis-without-password"].baseline


def test_what_stood_before_a_change_stays_of_the_baseline() -> None:
    bench = Bench()
    opened(REDIS, bench=bench)
    (told,) = bench.change(ChangeKind.SERVICE_CHANGED, REDIS.model_copy(update={"product": "Valkey"}), 60, baseline=True)
    assert (told.event, told.baseline) == (ExposureEvent.CHANGED, True)


def test_a_service_that_came_back_is_not_of_the_baseline() -> None:
    bench = Bench()
    opened(REDIS, bench=bench)
    bench.change(ChangeKind.SERVICE_CLOSED, REDIS, 60)
    (told,) = bench.change(ChangeKind.SERVICE_OPENED, REDIS, 120, baseline=False)
    assert not told.baseline


def test_a_certificate_that_expires_later_is_news() -> None:
    bench = Bench()
    ends = START + timedelta(days=90)
    certificate = Certificate(
        sha256="ab" * 32, subject="CN=a", issuer="CN=b", names=("a",), not_before=START, not_after=ends, key_type="ec", key_bits=256
    )
    bench.change(
        ChangeKind.SERVICE_OPENED,
        ServiceObservation(port=443, service="https", tls=TlsFacts(version="TLSv1.3", certificate=certificate)),
        baseline=True,
    )
    told = bench.feed("ticks", Tick(partition=0, minute=ends + timedelta(days=1)))
    assert {one.rule for one in told} >= {"certificate-expired"}
    assert not any(one.baseline for one in told if one.rule == "certificate-expired")


@pytest.mark.parametrize(
    ("over", "marked"),
    [
        ({}, True),
        ({"published": START - timedelta(days=9)}, True),
        ({"published": START + timedelta(days=9)}, False),
        ({"published": START - timedelta(days=9), "kev": True}, False),
    ],
)
def test_the_mark_does_not_depend_on_what_arrived_first(over: dict[str, Any], marked: bool) -> None:
    record = IntelRecord(cve=CVE, as_of=START, **over)
    old, new = (ServiceObservation(port=22, product="p", version=one) for one in ("1.0", "1.1"))
    ends = set()
    for order in permutations(("opened", "changed", "intel")):
        if order.index("opened") > order.index("changed"):
            continue
        bench = Bench(Correlator((Rule("old-version", "t", "", versions),)))
        first = bench.made(ChangeKind.SERVICE_OPENED, old, baseline=True)
        second = bench.made(ChangeKind.SERVICE_CHANGED, new, 60, baseline=True)
        told: list[Exposure] = []
        for one in order:
            if one == "intel":
                bench.feed("intel", record, CVE, START + timedelta(days=30))
                told += bench.feed("inventory", None, "198.18.0.0/24", START + timedelta(days=31))  # judged again
            else:
                told += bench.feed("changes", first if one == "opened" else second)
        ends.add(told[-1].baseline)
    assert ends == {marked}


def test_a_finding_is_of_the_baseline_while_every_place_is() -> None:
    bench = AssessorBench()
    assert bench.one("exposures", exposure(baseline=True)).baseline
    other: dict[str, Any] = {"address": "198.18.0.8", "exposure_id": content_id("another"), "after": 5}
    assert not bench.one("exposures", exposure(**other)).baseline
    assert bench.one("exposures", exposure(ExposureEvent.RESOLVED, 2, **other)).baseline
    told = bench.one("exposures", exposure(ExposureEvent.CHANGED, 2, after=9, baseline=False))
    assert (told.baseline, told.changed_at) == (False, FINDINGS_START + timedelta(seconds=9))
