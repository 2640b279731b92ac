"""From looks to findings: a port that opens and closes all day is one finding of each rule, and a handful of revisions."""

from __future__ import annotations

from collections import Counter

from schemas.events.assets import AssetChange
from schemas.events.findings import Finding
from schemas.events.observations import ServiceObservation
from tests.correlating import Bench as CorrelatorBench
from tests.findings import AssessorBench
from tests.sightings import HOST, Bench, observation, sweep

REDIS = ServiceObservation(port=6379, service="redis", product="Redis key-value store", facts={"redis.auth": "none"})
ROUNDS = 40


def test_a_flapping_port_is_one_finding() -> None:
    differ, correlator, assessor = Bench(), CorrelatorBench(), AssessorBench()
    told: list[AssetChange] = []
    for number in range(ROUNDS):
        start = 100 + number * 100
        told += differ.feed(sweep(f"o{number}", start, {HOST: [6379]}, ports="6379"), observation(f"o{number}", start + 1, REDIS))
        told += differ.feed(*(sweep(f"c{number}{one}", start + 30 + one * 20, closed={HOST: "6379"}, ports="6379") for one in range(2)))
    findings = [
        one
        for change in told
        for exposure in correlator.feed("changes", change)
        for one in assessor.feed("exposures", exposure)
        if isinstance(one, Finding)
    ]
    assert len(told) < 10, "the port opened and closed 40 times"
    ids = {one.finding_id: one.rule for one in findings}
    assert set(Counter(ids.values()).values()) == {1}
    assert {"redis-without-password", "service-flapping"} <= set(ids.values())
    assert max(Counter(one.finding_id for one in findings).values()) <= 4
