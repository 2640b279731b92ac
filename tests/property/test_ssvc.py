"""SSVC and the risk that follows: CISA's table as published, always bounded, never lower when exploitation or the asset's weight grows."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumers.assess.ranking import THRESHOLDS, rank_of
from processors.correlate.catalogue import BUILT_IN
from processors.correlate.contract import ServiceFacts
from processors.correlate.judging import judge
from processors.correlate.ssvc import EPSS_POC, MISSIONS, TABLE, Action, evidence_in, mission
from processors.correlate.urgency import urgency
from processors.match.matching import Match
from processors.match.rulings import Verdict
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.findings import Exposure
from schemas.events.intel import IntelRecord
from schemas.events.observations import ServiceObservation

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EXPLOITATION, AUTOMATABLE, IMPACT = ("none", "poc", "active"), ("no", "yes"), ("partial", "total")
ACTIONS = list(Action)
RANKS = [rank for _, rank in reversed(THRESHOLDS)]

VECTORS = st.sampled_from(["", "CVSS", "AV:N", "CVSS:9.9/AV:N/AC:L/PR:N/UI:N", "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"]) | st.builds(
    "CVSS:3.1/AV:{}/AC:{}/PR:{}/UI:{}/S:U/C:{}/I:{}/A:N{}".format,
    st.sampled_from("NALP"),
    st.sampled_from("LH"),
    st.sampled_from("NLH"),
    st.sampled_from("NR"),
    st.sampled_from("NLH"),
    st.sampled_from("NLH"),
    st.sampled_from(["", "/E:P", "/E:U"]),
)
SHARES = st.none() | st.floats(0, 1)


def records(number: int) -> st.SearchStrategy[IntelRecord]:
    return st.builds(
        IntelRecord,
        cve=st.just(f"CVE-2024-{number}"),
        as_of=st.just(NOW),
        kev=st.sampled_from([None, False, True]),
        cvss=st.none() | st.floats(0, 10),
        cvss_vector=VECTORS,
        epss=SHARES,
        epss_percentile=SHARES,
        ssvc_exploitation=st.sampled_from(["", *EXPLOITATION]),
        ssvc_automatable=st.sampled_from(["", *AUTOMATABLE]),
        ssvc_technical_impact=st.sampled_from(["", *IMPACT]),
    )


INVENTORY = st.none() | st.builds(
    InventoryRecord,
    network=st.just("198.18.0.0/15"),
    criticality=st.sampled_from(Criticality),
    tags=st.sampled_from([(), ("safety",), ("lab",), ("Web",)]),
)


def worse(record: IntelRecord, draw: Any) -> IntelRecord:
    """The same with one sign more that it is exploited, or a stronger one."""
    changes: list[dict[str, Any]] = [{"kev": True}, {"ssvc_exploitation": "active"}]
    if record.ssvc_exploitation == "none":
        changes.append({"ssvc_exploitation": "poc"})
    if record.epss is not None and record.epss_percentile is not None:
        changes.append({"epss": draw(st.floats(record.epss, 1)), "epss_percentile": draw(st.floats(record.epss_percentile, 1))})
        changes.append({"epss": max(record.epss, EPSS_POC)})
    return record.model_copy(update=draw(st.sampled_from(changes)))


def test_the_table_is_whole_and_never_falls_when_a_point_gets_worse() -> None:
    assert set(TABLE) == set(product(EXPLOITATION, AUTOMATABLE, IMPACT))
    points = (EXPLOITATION, AUTOMATABLE, IMPACT, MISSIONS)

    def place(cell: tuple[str, ...]) -> int:
        return ACTIONS.index(TABLE[cell[0], cell[1], cell[2]][MISSIONS.index(cell[3])])

    cells = list(product(*points))
    for cell, axis in product(cells, range(4)):
        at = points[axis].index(cell[axis])
        if at + 1 < len(points[axis]):
            assert place((*cell[:axis], points[axis][at + 1], *cell[axis + 1 :])) >= place(cell)
    counted = [sum(place(cell) == number for cell in cells) for number in range(4)]
    assert counted == [18, 4, 10, 4]  # Track, Track*, Attend, Act of CISA's 36 rows


@given(records(1), INVENTORY)
def test_what_is_unknown_is_said_and_counts_as_the_worse(record: IntelRecord, owner: InventoryRecord | None) -> None:
    found = urgency(record, mission(owner))
    for point, step in zip(found.decision.points, found.steps, strict=False):
        assert step.source
        assert step.input
        assert step.effect == (point.value or f"unknown, counts as {point.counted}")
    worst = {"exploitation": "poc", "automatable": "yes", "technical-impact": "total", "mission": "medium"}
    assert all(point.counted == (point.value or worst[point.name]) for point in found.decision.points)
    assert 0 <= found.floor <= found.base <= found.ceiling <= 100


@given(st.data(), records(1), INVENTORY)
def test_the_risk_never_falls_when_exploitation_gets_worse(data: st.DataObject, record: IntelRecord, owner: InventoryRecord | None) -> None:
    before = urgency(record, mission(owner))
    after = urgency(worse(record, data.draw), mission(owner))
    assert (after.base, after.floor, after.ceiling) >= (before.base, before.floor, before.ceiling)
    assert after.base >= before.base
    assert after.floor >= before.floor
    assert after.ceiling >= before.ceiling


@given(records(1), st.sampled_from(Criticality), st.sampled_from(Criticality))
def test_the_risk_never_falls_with_the_weight_of_the_asset(record: IntelRecord, one: Criticality, other: Criticality) -> None:
    order = list(Criticality)
    lesser, greater = sorted((one, other), key=order.index)
    risks = [urgency(record, mission(InventoryRecord(network="198.18.0.0/15", criticality=each))).base for each in (lesser, greater)]
    assert risks[0] <= risks[1]


MATCHES = st.lists(st.tuples(st.sampled_from((Verdict.AFFECTED, Verdict.POSSIBLE)), st.floats(0.2, 1)), min_size=1, max_size=4)


@given(st.data(), MATCHES, INVENTORY, st.sampled_from(["default", "dmz", "internet"]), st.booleans())
def test_no_rank_at_a_service_falls_when_one_of_its_vulnerabilities_gets_worse(
    data: st.DataObject, verdicts: list[tuple[Verdict, float]], owner: InventoryRecord | None, zone: str, new: bool
) -> None:
    known = [data.draw(records(number)) for number in range(1, len(verdicts) + 1)]
    later = [worse(known[0], data.draw), *known[1:]]

    def exposures(of: list[IntelRecord]) -> list[Exposure]:
        matches = tuple(
            Match(one, verdict, sure, "by its version", "a:b", "1.0") for one, (verdict, sure) in zip(of, verdicts, strict=True)
        )
        facts = ServiceFacts(
            zone, "198.18.0.7", ServiceObservation(port=8080, version="1.0"), NOW, new=new, inventory=owner, matches=matches
        )
        found = [one for one in judge(BUILT_IN, facts, (), ("e",)).values() if one.cves]
        assert all(0 <= one.floor <= one.base_risk <= one.ceiling <= 100 for one in found)
        return found

    before, after = exposures(known), exposures(later)
    for first, second in ((max(map(field, before)), max(map(field, after))) for field in (_base, _floor, _ceiling)):
        assert second >= first
    assert RANKS.index(rank_of(max(map(_base, after)))) >= RANKS.index(rank_of(max(map(_base, before))))


def _base(one: Exposure) -> float:
    return one.base_risk


def _floor(one: Exposure) -> float:
    return one.floor


def _ceiling(one: Exposure) -> float:
    return one.ceiling


@given(records(1))
def test_a_day_that_changes_a_percentile_by_little_changes_nothing(record: IntelRecord) -> None:
    if record.epss_percentile is not None:
        rounded = record.model_copy(update={"epss_percentile": round(record.epss_percentile, 2)})
        assert evidence_in(record) == evidence_in(rounded)
